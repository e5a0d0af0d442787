"""Layouts in the structures of the released demos, with words and places of our own."""

from typing import Any

import numpy as np

from instdiff.layouts import masks

MASK = np.zeros((48, 64), dtype=bool)
MASK[8:24, 16:48] = True


RLE = masks.encode(MASK).model_dump(mode="json")


def released(*annos: dict[str, Any], width: int = 512, height: int = 512) -> dict[str, Any]:
    return {"caption": "a scene", "width": width, "height": height, "annos": list(annos)}


# the structures of the released demos, with words and places of our own
STRUCTURES: dict[str, dict[str, Any]] = {
    "boxes with empty masks": released(
        *({"caption": f"thing {n}", "bbox": [100 * n, 40, 90, 200], "mask": [], "category_name": ""} for n in range(4))
    ),
    "some masks, a box past the border": released(
        {"caption": "a cup", "bbox": [16, 8, 32, 16], "mask": RLE},
        {"caption": "a long bench", "bbox": [0, 30, 96, 10], "mask": []},
        width=64,
        height=48,
    ),
    "points only": released(*({"caption": f"tower {n}", "point": [90 * n, 33]} for n in range(7)), width=768),
    "wide picture": released(*({"caption": f"fruit {n}", "bbox": [40 * n, 300, 60, 80]} for n in range(17)), width=768),
    "an edited wide picture": released(
        *({"caption": f"fruit {n}", "bbox": [40 * n, 300, 60, 90], "mask": []} for n in range(19)), width=768
    ),
    "a box without area among many": released(
        *({"caption": f"rose {n}", "bbox": [18 * n, 20, 17, 60], "mask": []} for n in range(27)),
        {"caption": "grass", "bbox": [0, 512, 0, 0], "mask": []},
    ),
    "ten boxes, one with a point": released(
        {"caption": "a bear", "bbox": [10, 10, 200, 300], "point": [50, 60]},
        *({"caption": f"castle {n}", "bbox": [5 * n, 5, 100, 100]} for n in range(9)),
    ),
    "an instance that is nowhere": released({"caption": "mist"}, {"caption": "a lake", "bbox": [0, 256, 512, 256]}),
    "scribbles in both forms": released(
        {"caption": "a river", "scribble": [10, 10, 100, 120, 300, 200]},
        {"caption": "a road", "scribble": [[10, 10], [100, 120]]},
    ),
    "nothing but a caption": released(),
}
