"""The connection: two supervised AMQP connections that live and die together, as generations."""

from consumer.connection.broker import Broker
from consumer.connection.link import LINK_ERRORS
from consumer.connection.publishing import BrokerBrokeError, LinkLostError, Published
from consumer.connection.session import Loss, Session, while_alive

__all__ = [
    "LINK_ERRORS",
    "Broker",
    "BrokerBrokeError",
    "LinkLostError",
    "Loss",
    "Published",
    "Session",
    "while_alive",
]
