"""Chinese: which sentences ask for a picture, and what of. Pure.

The verb stands in front, after words of courtesy alone; the word for the picture comes last:
"生成一张红熊猫的图片". Traditional characters are read as simplified ones.
"""

import re

from examples.chat.wishes.asked import Asked, anchored

_NOUN = (
    r"(?:图片|图像|图画|照片|相片|插画|插图|油画|水彩画|国画|版画|画作|漫画|简笔画|素描|海报|壁纸|标志|徽标"
    r"|头像|肖像画?|图标|封面|贴纸|logo|图|画)"
)
_NEUTRAL = r"(?:图片|图像|图画|照片|相片|图|画)"
_COUNTS = {"一": 1, "两": 2, "二": 2, "三": 3, "四": 4, "几": 3}
_NUMBER = rf"(?P<count>\d{{1,2}}|[{''.join(_COUNTS)}])?"
_COURTESY = (
    r"(?:(?:你好|您好|嗨|哈喽|早上好|晚上好|好的?|那么?|现在|接着|接下来|然后|再|请你?|麻烦[你您]?|劳驾|帮[我忙]?"
    r"|给我们?|为我|替我|能不能|能否|可不可以|可以|[你您]能|[你您]可以|能|[你您]|我[想要]?[让请要][你您]|我希望[你您]"
    r"|直接|快|随便|试着)[,!:。 ]*+){0,8}"
)
_DRAW = r"(?:画|绘制|绘|描绘|素描|手绘|勾勒)"
_MAKE = (
    r"(?:生成|创建|创作|制作|产生|做|来|弄|整|出|设计|渲染|要|给我看看?|给我|我?想要|我?想看看?|我?需要|我要|我想要"
    r"|让我看看?|看看?|换)"
)
_NO_OBJECT = anchored(
    r"[画家展面廊布室框板饼的了过得卷册符眉刀师风质]",
    r"蛇添足|龙点睛|地为牢|上句号|等号|重点",
    r"\W*$",
)
_TAIL = re.compile(
    r"(?:吗|吧|呢|啊|呀|好吗|可以吗|行吗|好不好|谢谢[你您]?|多谢|拜托了?|[,.!?。!~ ])+$"
)

_DRAWN = re.compile(
    rf"{_COURTESY}{_DRAW}(?:一下|出)?(?P<amount>{_NUMBER}(?P<measure>[张幅副]|个(?![人月性])))?(?P<subject>.+)$",
    re.DOTALL,
)
_MADE = re.compile(
    rf"{_COURTESY}{_MAKE}(?:一下)?(?P<amount>{_NUMBER}(?P<measure>[张幅副套款份个枚]))?"
    rf"(?P<subject>[^,.:]*?)(?P<joint>的)?(?P<noun>{_NOUN})(?P<rest>[,.:].*)?$",
    re.DOTALL | re.IGNORECASE,
)
_NAMED = re.compile(
    rf"{_COURTESY}{_NUMBER}[张幅](?P<subject>[^,.:]+?)的?(?P<noun>{_NOUN})(?P<rest>[,.:].*)?$",
    re.DOTALL | re.IGNORECASE,
)
_ANNOUNCED = re.compile(r":\s*(?!怎么|如何|为什么|多久|多少)")
_NOT_SO = re.compile(r"列表|表格|镜像|密码|数据库|代码|[这那哪](?:一)?[张幅]|什么")


def asked(sentence: str, *, welcome: bool) -> Asked | None:
    """Return what a sentence asks for; `welcome`: thanks, a size or a seed goes with it."""
    plain = _TAIL.sub("", sentence)
    return _ordered(plain) or _pictured(plain) or (_named(plain) if welcome else None)


def _ordered(sentence: str) -> Asked | None:
    """画: whatever it is, but for words that only begin like it, as 画家, and what was drawn."""
    found = _DRAWN.match(sentence)
    if found is None:
        return None
    if not found["amount"] and _NO_OBJECT.match(found["subject"]):
        return None
    if found["measure"] in {"张", "幅", "副"}:
        return Asked(found["subject"], _number(found["count"]))
    counted = found["amount"] and found["count"]
    return Asked(sentence[found.start("amount") :] if counted else found["subject"])


def _pictured(sentence: str) -> Asked | None:
    """生成, 来, 我想要: a picture has to be named, and counted or described."""
    found = _MADE.match(sentence)
    if found is None or _NOT_SO.search(found["subject"]):
        return None
    announced = not found["subject"] and _ANNOUNCED.match(found["rest"] or "")
    if not (found["measure"] or found["joint"] or announced):
        return None
    return _phrased(found, _number(found["count"]))


def _named(sentence: str) -> Asked | None:
    """Nothing but the picture: "一张狐狸的图片 谢谢"."""
    found = _NAMED.match(sentence)
    return None if found is None else _phrased(found, _number(found["count"]))


def _phrased(found: re.Match[str], count: int | None) -> Asked:
    """Keep the word for the kind of picture, as in 油画: it is part of what is asked for."""
    subject, noun, rest = found["subject"], found["noun"], found["rest"] or ""
    if subject and re.fullmatch(_NEUTRAL, noun):
        return Asked(subject + rest, count)
    if not subject and re.fullmatch(_NEUTRAL, noun):
        return Asked(rest.lstrip(",.: "), count)
    between = "的" if subject else ""
    return Asked(f"{subject}{between}{noun}{rest}", count, complete=bool(subject or rest))


def _number(word: str | None) -> int | None:
    if not word:
        return None
    number = int(word) if word.isdecimal() else _COUNTS[word]
    return number if number > 1 else None
