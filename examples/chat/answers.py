"""The answers: what the chat makes of a message, of a retry, of an edit and of a cancel."""

from examples.chat.accounts import User
from examples.chat.conversations import Conversations
from examples.chat.gallery import Gallery, Order, Picture
from examples.chat.refusal import Refusal
from examples.chat.states import State
from examples.chat.studio import Studio
from examples.chat.tabs import Tabs
from examples.chat.wishes import Wish, wish_in
from examples.chat.wishes.details import taken_out

MESSAGE_MOST = 4000
"""Characters, as of a prompt."""
UNDER_WAY_MOST = 4
"""Pictures of one user: the queue has twenty places for all."""

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
        with self._conversations.whole():
            self._conversations.say(user, "user", text)
            if wish is None:
                self._conversations.say(user, "chat", SMALL_TALK)
            pictures = [] if wish is None else self._noted(user, _orders(wish))
        self._begin(user, pictures)

    def again(self, user: User, id_: str) -> None:
        """Draw the same once more: with a new seed where it was drawn, as it was where not.

        Raises:
            Refusal: it is none of the user's, or under way.
        """
        picture = self._over(user, id_)
        order = picture.order
        seed = None if picture.state is State.DRAWN else order.seed
        with self._conversations.whole():
            pictures = self._noted(user, [Order(order.prompt, order.width, order.height, seed)])
        self._begin(user, pictures)

    def edit(self, user: User, id_: str, prompt: str) -> None:
        """Draw another prompt, in the size and with the seed of a picture, or those that it names.

        Raises:
            Refusal: it is none of the user's or under way, or the prompt is empty or too long.
        """
        prompt = _checked(prompt)
        picture = self._over(user, id_)
        order = _edited(picture, prompt)
        with self._conversations.whole():
            self._conversations.say(user, "user", prompt)
            pictures = self._noted(user, [order])
        self._begin(user, pictures)

    def cancel(self, user: User, id_: str) -> None:
        """Call a picture off.

        Raises:
            Refusal: it is none of the user's, or over.
        """
        picture = self._mine(user, id_)
        if not self._studio.call_off(picture.id):
            raise Refusal(409, "It is over already.")

    def _noted(self, user: User, orders: list[Order]) -> list[Picture]:
        """Write down, as far as the user may, what is to be drawn; returns that."""
        count = len(self._gallery.under_way(user))
        pictures = [
            self._gallery.add(user, order, self._deadline_s)
            for order in orders[: UNDER_WAY_MOST - count]
        ]
        for picture in pictures:
            self._conversations.say(user, "chat", "", picture.id)
        if len(orders) > UNDER_WAY_MOST - count:
            words = TOO_MANY.format(
                count=min(count + len(orders), UNDER_WAY_MOST), most=UNDER_WAY_MOST
            )
            self._conversations.say(user, "chat", words)
        return pictures

    def _begin(self, user: User, pictures: list[Picture]) -> None:
        """Have drawn what is written down by now, and tell the user's pages."""
        for picture in pictures:
            self._studio.draw(picture)
        self._tabs.wake(user.id)

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


def _edited(picture: Picture, text: str) -> Order:
    """Return what an edit asks for. What the service refused is not asked for again unsaid."""
    details, words = taken_out(text)
    refused = picture.code == "invalid_request"
    like = Order(text) if refused else picture.order
    seed = None if refused else (picture.drawn or picture.order).seed
    width, height = details.size or (like.width, like.height)
    return Order(_checked(words), width, height, seed if details.seed is None else details.seed)


def _orders(wish: Wish) -> list[Order]:
    """Return an order for each picture: of several with a seed, each has the next."""
    return [
        Order(
            wish.prompt,
            wish.width,
            wish.height,
            None if wish.seed is None else wish.seed + number,
        )
        for number in range(wish.count)
    ]
