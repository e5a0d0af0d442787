"""Prompts: the text of a whole picture, as its source wrote it or composed of the names of its instances."""

from collections import Counter
from typing import Literal

from instdiff.schema import Layout, Strict

# Words that say little without a sentence around them; what is left of a list of captions fits the text encoder.
_LISTED = """
a an the this that these those it its he she they them his her their there here who which what
is are was were be been being am has have had do does did will would can could may might shall should
of in on at by to from with without for into onto over under up down out off about between through
and or but nor so as if than then when where while not no only own same too very just
"""
FUNCTION_WORDS = frozenset(_LISTED.split())


class Prompts(Strict):
    """How a sample's prompt is made; the last two values are of samples whose prompt lists their instances."""

    listed: Literal["never", "uncaptioned", "always"]  # samples whose prompt begins with its instances' categories
    count_dup: bool  # "2 dog, 1 cat" instead of "dog, dog, cat"
    add_inst_cap_2_global: bool  # categories and captions of the instances follow, and function words go

    @property
    def rule(self) -> str:
        """The rule that embeddings are stored with; empty where prompts are those of the layouts."""
        return "" if self.listed == "never" else self.model_dump_json()


def prompt(layout: Layout, how: Prompts) -> str:
    """The text that stands for the picture: ". " joins the list of instances, the caption, and each instance's words.

    Source: the released data set, which calls samples without captions of their own `is_det`.
    """
    if not layout.instances or how.listed == "never" or (how.listed == "uncaptioned" and layout.prompt):
        return layout.prompt
    names = [instance.category or instance.phrase for instance in layout.instances]
    counted = [f"{times} {name}" for name, times in Counter(names).items()]
    parts = [", ".join(counted if how.count_dup else names), *([layout.prompt] if layout.prompt else [])]
    if not how.add_inst_cap_2_global:
        return ". ".join(parts)
    described = [f"{name}, {instance.phrase}" for name, instance in zip(names, layout.instances, strict=True)]
    words = ". ".join([*parts, *described]).split()
    return " ".join(word for word in words if word.lower() not in FUNCTION_WORDS)
