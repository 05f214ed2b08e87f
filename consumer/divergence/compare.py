"""The comparison of a live vhost with the whole table. Pure, as all of this package."""

from consumer import topology
from consumer.divergence import objects
from consumer.divergence import policies as limits
from consumer.divergence import rights as permissions
from consumer.divergence.live import Difference, Live, Wanted


def differences(live: Live, wanted: Wanted, *, rights: bool) -> list[Difference]:
    """Return each difference, in the order in which they are mended."""
    table = topology.definitions(wanted.max_queue_size, cluster=wanted.cluster)
    if not live.there:
        return [objects.of_vhost(live)]
    found = [
        *limits.of_policies(live, table["policies"]),
        *(
            each
            for exchange in table["exchanges"]
            for each in objects.of_exchange(live, exchange)
        ),
        *(each for queue in table["queues"] for each in objects.of_queue(live, queue)),
        *objects.of_bindings(live, table["bindings"]),
    ]
    return [*found, *(permissions.of_rights(live, hardened=wanted.hardened) if rights else ())]


def unseen(live: Live, *, rights: bool) -> list[str]:
    """Return in sentences what could not be compared."""
    sentences = []
    if live.policies is None:
        sentences.append("policies may not be read by this user: limits in force were compared")
        sentences += [
            f"what is in force at queue {queue['name']} is not known yet: ask again in a moment"
            for queue in live.queues
            if queue["name"] in topology.OWN_OBJECTS
            and "effective_policy_definition" not in queue
        ]
    if live.operator_policies is None and live.policies is not None:
        sentences.append("operator policies may not be read by this user")
    if rights and (live.users is None or live.permissions is None):
        sentences.append("users and rights may be read by administrators only")
    return sentences
