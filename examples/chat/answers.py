"""The answers: what the chat makes of a message, of a retry, of an edit and of a cancel."""

from examples.chat.accounts import User
from examples.chat.conversations import Conversations
from examples.chat.gallery import Gallery, Order, Picture
from examples.chat.refusal import Refusal
from examples.chat.states import State
from examples.chat.studio import Studio
from examples.chat.tabs import Tabs
from examples.chat.wishes import Wish, wish_in

MESSAGE_MOST = 4000
"""Characters, as of a prompt."""
UNDER_WAY_MOST = 4
"""Pictures of one user: the queue has twenty places for all."""
LARGEST_SEED = 2**53 - 1

SMALL_TALK = (
    "I draw pictures, and that is all I can do. Ask me for one: “draw a lighthouse at dawn”,"
    " “generate a picture of a lake in landscape, seed 7”."
)
TOO_MANY = (
    "You have {count} pictures under way, and {most} are the most."
    " Wait until one is done, or cancel one, and ask again."
)


class Answers:
    """Takes what a user does, and does it."""

    def __init__(
        self,
        conversations: Conversations,
        gallery: Gallery,
        studio: Studio,
        tabs: Tabs,
        deadline_s: float,
    ) -> None:
        self._conversations = conversations
        self._gallery = gallery
        self._studio = studio
        self._tabs = tabs
        self._deadline_s = deadline_s

    def message(self, user: User, text: str) -> None:
        """Take a message: a wish is drawn, other talk is answered.

        Raises:
            Refusal: there is nothing in it, or too much.
        """
        text = _checked(text)
        wish = wish_in(text)
        self._conversations.say(user, "user", text)
        if wish is None:
            self._conversations.say(user, "chat", SMALL_TALK)
        else:
            self._draw(user, _orders(wish))
        self._tabs.wake(user.id)

    def again(self, user: User, id_: str) -> None:
        """Draw the same once more: with a new seed where it was drawn, as it was where not.

        Raises:
            Refusal: it is none of the user's, or under way.
        """
        picture = self._over(user, id_)
        order = picture.order
        seed = None if picture.state is State.DRAWN else order.seed
        self._draw(user, [Order(order.prompt, order.width, order.height, seed)])
        self._tabs.wake(user.id)

    def edit(self, user: User, id_: str, prompt: str) -> None:
        """Draw another prompt, in the size and with the seed of a picture.

        Raises:
            Refusal: it is none of the user's or under way, or the prompt is empty or too long.
        """
        prompt = _checked(prompt)
        picture = self._over(user, id_)
        like = picture.drawn or picture.order
        order = Order(prompt, picture.order.width, picture.order.height, like.seed)
        self._conversations.say(user, "user", prompt)
        self._draw(user, [order])
        self._tabs.wake(user.id)

    def cancel(self, user: User, id_: str) -> None:
        """Call a picture off.

        Raises:
            Refusal: it is none of the user's, or over.
        """
        picture = self._mine(user, id_)
        if not self._studio.call_off(picture.id):
            raise Refusal(409, "It is over already.")

    def _draw(self, user: User, orders: list[Order]) -> None:
        count = len(self._gallery.under_way(user))
        for order in orders[: UNDER_WAY_MOST - count]:
            picture = self._gallery.add(user, order, self._deadline_s)
            self._conversations.say(user, "chat", "", picture.id)
            self._studio.draw(picture)
        if len(orders) > UNDER_WAY_MOST - count:
            words = TOO_MANY.format(
                count=min(count + len(orders), UNDER_WAY_MOST), most=UNDER_WAY_MOST
            )
            self._conversations.say(user, "chat", words)

    def _over(self, user: User, id_: str) -> Picture:
        picture = self._mine(user, id_)
        if picture.under_way:
            raise Refusal(409, "It is being drawn yet. Wait for it, or cancel it.")
        return picture

    def _mine(self, user: User, id_: str) -> Picture:
        try:
            return self._gallery.of(user, id_)
        except KeyError:
            raise Refusal(404, "There is no such picture.") from None


def _checked(text: str) -> str:
    text = text.strip()
    if not text:
        raise Refusal(400, "There is nothing in it.")
    if len(text) > MESSAGE_MOST:
        raise Refusal(400, f"It is longer than {MESSAGE_MOST:,} characters. Shorten it.")
    return text


def _orders(wish: Wish) -> list[Order]:
    """Return an order for each picture: of several with a seed, each has the next."""
    return [
        Order(
            wish.prompt,
            wish.width,
            wish.height,
            None if wish.seed is None else min(wish.seed + number, LARGEST_SEED),
        )
        for number in range(wish.count)
    ]
