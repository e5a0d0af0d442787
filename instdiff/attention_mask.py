"""Instance-masked attention: which visual token may look at which token (paper, section 3.2; released code's rule).

Shapes: B pictures, N slots, L = h * w visual tokens, row by row, T instance tokens, K = L + T.
"""

from collections.abc import Collection, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from instdiff.conditions import Compat, Conditions
from instdiff.unifusion import LOCATED, Located

_REFERENCE_GRID = (64, 64)  # the only one the released code masks


def build(
    conditions: Conditions,
    grids: Sequence[tuple[int, int]],
    num_mask_tokens: int,
    compat: Compat | None = None,
) -> dict[int, Tensor]:
    """`Grounding.allowed` for these levels of (height, width) visual tokens.

    Where no instance of a picture has a box or mask, all is allowed; an instance that has neither may be anywhere.
    `compat="reference"` masks 64 x 64 tokens only, by the boxes only, with rows and columns exchanged, and leaves the
    tokens of points and scribbles open to all.
    """
    if compat == "reference":
        return {
            h * w: allowed(transposed_boxes(conditions, h, w), _placed(conditions), num_mask_tokens, ("box", "outline"))
            for h, w in grids
            if (h, w) == _REFERENCE_GRID
        }
    placed_B = _placed(conditions)
    return {h * w: allowed(regions(conditions, h, w), placed_B, num_mask_tokens, LOCATED) for h, w in grids}


def allowed(region_BNL: Tensor, placed_B: Tensor, num_mask_tokens: int, bound: Collection[Located]) -> Tensor:
    """(B, L, K) bool: may the visual token look at the token? Where `placed_B` is False, always.

    Visual at visual: when some instance holds both, or at itself. Visual at a token of an instance: inside the instance
    for the formats that are `bound`, everywhere for the others and for the tokens of the masks.
    """
    num_pictures, _, num_visual = region_BNL.shape
    region = region_BNL.float()
    together_BLL = (region.transpose(1, 2) @ region) > 0
    together_BLL.diagonal(dim1=1, dim2=2).fill_(True)
    inside_BLN = region_BNL.transpose(1, 2)
    always_BLN = torch.ones_like(inside_BLN)
    located = [inside_BLN if name in bound else always_BLN for name in LOCATED]
    always_BLT = always_BLN.new_ones(num_pictures, num_visual, num_mask_tokens)
    return torch.cat([together_BLL, *located, always_BLT], dim=2) | ~placed_B[:, None, None]


def regions(conditions: Conditions, height: int, width: int) -> Tensor:
    """(B, N, L) bool: cells at least half covered by the mask (the box where there is none), or the most covered."""
    mask_BNHW = conditions.mask_BNHW.float()
    from_mask = F.adaptive_avg_pool2d(mask_BNHW, (height, width))
    by_mask = conditions.mask_given_BN[:, :, None, None]
    covered = torch.where(by_mask, from_mask, box_coverage(conditions.box_BN4, height, width)).flatten(2)
    most = covered.amax(dim=2, keepdim=True)
    region_BNL = (covered >= 0.5) | ((covered == most) & (most > 0) & (most < 0.5))
    anywhere_BN = conditions.filled_BN & ~(conditions.mask_given_BN | conditions.box_given_BN)
    nowhere_BN = ~(conditions.filled_BN | conditions.mask_given_BN | conditions.box_given_BN)
    return (region_BNL | anywhere_BN[:, :, None]) & ~nowhere_BN[:, :, None]


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
        (conditions.box_BN4 * conditions.box_BN4.new_tensor([width, height, width, height])).round().unbind(-1)
    )
    along_x = torch.arange(width, device=x0.device)
    along_y = torch.arange(height, device=x0.device)
    inside_x = (along_x >= x0[..., None]) & (along_x < x1[..., None])
    inside_y = (along_y >= y0[..., None]) & (along_y < y1[..., None])
    return (inside_x[..., :, None] & inside_y[..., None, :]).flatten(2) & conditions.filled_BN[:, :, None]


def _placed(conditions: Conditions) -> Tensor:
    """(B,): some instance has a box or a mask."""
    return (conditions.box_given_BN | conditions.outline_given_BN | conditions.mask_given_BN).any(dim=1)
