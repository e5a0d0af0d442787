"""Instance-masked attention: which visual token may attend to which token (paper, section 3.2; released code's rule).

Shapes: B pictures, N slots, L = h * w visual tokens, row by row, T instance tokens, K = L + T.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from instdiff.layouts.formats import LOCATED, LOCATION_FORMATS, POINT_FORMATS, LocationFormat
from instdiff.model.conditions import Conditions
from instdiff.schema import Compat

_REFERENCE_GRID = (64, 64)  # the only grid that the released code masks
# Formats that say which cells an instance covers; a later entry overrules an earlier, points that reach less those
# that reach further.
_POINTS = tuple(sorted((entry for entry in POINT_FORMATS if entry.reach), key=lambda entry: -(entry.reach or 0)))
_PLACING = (*_POINTS, *(entry for kind in ("box", "mask") for entry in LOCATION_FORMATS if entry.kind == kind))


def build(
    conditions: Conditions,
    grids: Sequence[tuple[int, int]],
    num_mask_tokens: int,
    compat: Compat | None = None,
) -> dict[int, Tensor]:
    """`Grounding.allowed` for these levels of (height, width) visual tokens.

    A picture is masked when an instance of it has a place; the instances without a place may then be anywhere.
    `compat="reference"` masks 64 x 64 tokens only, by the boxes only, with rows and columns exchanged, and leaves the
    tokens of points and scribbles open to all.
    """
    located = [entry.name for entry in conditions.formats if entry.name in LOCATED]
    if compat == "reference":
        inside = [name in {"box", "outline"} for name in located]
        return {
            h * w: allowed(transposed_boxes(conditions, h, w), _boxed(conditions), inside, num_mask_tokens)
            for h, w in grids
            if (h, w) == _REFERENCE_GRID
        }
    inside = [True] * len(located)
    placed_B = torch.stack([conditions.given(entry.name) for entry in _PLACING]).any(dim=0).any(dim=1)
    return {h * w: allowed(regions(conditions, h, w), placed_B, inside, num_mask_tokens) for h, w in grids}


def allowed(region_BNL: Tensor, placed_B: Tensor, inside: Sequence[bool], num_mask_tokens: int) -> Tensor:
    """(B, L, K) bool: may the visual token attend to the token? Where `placed_B` is False, always.

    Visual to visual: when some instance holds both, or to itself. Visual to a token of an instance: only `inside` the
    instance, or everywhere, by format; everywhere to the tokens of the masks.
    """
    num_pictures, _, num_visual = region_BNL.shape
    region = region_BNL.float()
    together_BLL = (region.transpose(1, 2) @ region) > 0
    together_BLL.diagonal(dim1=1, dim2=2).fill_(True)
    inside_BLN = region_BNL.transpose(1, 2)
    always_BLN = torch.ones_like(inside_BLN)
    located = [inside_BLN if only_inside else always_BLN for only_inside in inside]
    always_BLT = always_BLN.new_ones(num_pictures, num_visual, num_mask_tokens)
    return torch.cat([together_BLL, *located, always_BLT], dim=2) | ~placed_B[:, None, None]


def regions(conditions: Conditions, height: int, width: int) -> Tensor:
    """(B, N, L) bool: cells at least half covered by the mask, or the most covered; without a mask, by the box.

    Without both, the cells near points, those of the format that reaches least. A filled slot without a place is
    everywhere.
    """
    region_BNL = conditions.filled_BN[:, :, None].expand(-1, -1, height * width)
    held = conditions.formats
    for entry in _PLACING:
        if entry in held:
            placed_BNL = _region(entry, conditions.numbers(entry.name), height, width)
            region_BNL = torch.where(conditions.given(entry.name)[:, :, None], placed_BNL, region_BNL)
    return region_BNL


def _region(entry: LocationFormat, numbers: Tensor, height: int, width: int) -> Tensor:
    """(B, N, L) bool: the cells of the instance by this format."""
    if entry.kind == "mask":
        return _most(F.adaptive_avg_pool2d(numbers.float(), (height, width)).flatten(2))
    if entry.kind == "box":
        return _most(box_coverage(numbers, height, width).flatten(2))
    return near(numbers, height, width, entry.reach or 0.0)


def _most(covered_BNL: Tensor) -> Tensor:
    """Cells at least half covered; where there is none, those covered the most."""
    most_BN1 = covered_BNL.amax(dim=2, keepdim=True)
    return (covered_BNL >= 0.5) | ((covered_BNL == most_BN1) & (most_BN1 > 0) & (most_BN1 < 0.5))


def near(points_BNF: Tensor, height: int, width: int, reach: float) -> Tensor:
    """(B, N, L) bool: cells that hold one of the points x, y, x, y, ... or whose middle is at most `reach` from it."""
    y, x = torch.meshgrid(
        torch.arange(height, device=points_BNF.device), torch.arange(width, device=points_BNF.device), indexing="ij"
    )
    middle_L2 = torch.stack([(x + 0.5) / width, (y + 0.5) / height], dim=-1).flatten(0, 1)
    apart_BNKL2 = points_BNF.unflatten(-1, (-1, 2))[:, :, :, None] - middle_L2
    along_x, along_y = apart_BNKL2.abs().unbind(-1)
    holds_BNKL = (along_x <= 0.5 / width) & (along_y <= 0.5 / height)
    near_BNL: Tensor = ((apart_BNKL2.square().sum(-1) <= reach**2) | holds_BNKL).any(dim=2)
    return near_BNL


def box_coverage(box_BN4: Tensor, height: int, width: int) -> Tensor:
    """(B, N, h, w): the share of each cell that the box covers."""

    def covered(start: Tensor, stop: Tensor, size: int) -> Tensor:
        edge = torch.arange(size + 1, device=start.device)
        low = torch.maximum(start[..., None] * size, edge[:-1])
        return (torch.minimum(stop[..., None] * size, edge[1:]) - low).clamp(min=0)

    x0, y0, x1, y1 = box_BN4.unbind(-1)
    return covered(y0, y1, height)[..., :, None] * covered(x0, x1, width)[..., None, :]


def transposed_boxes(conditions: Conditions, height: int, width: int) -> Tensor:
    """(B, N, L) bool: the released code's regions, whose first axis is x; edges round half to even."""
    x0, y0, x1, y1 = (
        (edge * size).round() for edge, size in zip(conditions.box_BN4.unbind(-1), 2 * (width, height), strict=True)
    )
    along_x = torch.arange(width, device=x0.device)
    along_y = torch.arange(height, device=x0.device)
    inside_x = (along_x >= x0[..., None]) & (along_x < x1[..., None])
    inside_y = (along_y >= y0[..., None]) & (along_y < y1[..., None])
    return (inside_x[..., :, None] & inside_y[..., None, :]).flatten(2) & conditions.filled_BN[:, :, None]


def _boxed(conditions: Conditions) -> Tensor:
    """(B,): some instance has a box or a mask; the released code masks nothing where none has."""
    return (conditions.box_given_BN | conditions.outline_given_BN | conditions.mask_given_BN).any(dim=1)
