"""All kinds of place, by name."""

from collections.abc import Callable

from pixloc_core.training.synthetic.indoor_places import make_room, make_table
from pixloc_core.training.synthetic.outdoor_places import (
    make_aerial,
    make_courtyard,
    make_field,
    make_street,
)
from pixloc_core.training.synthetic.palette import Palette
from pixloc_core.training.synthetic.patches import PatchBuilder
from pixloc_core.training.synthetic.place import Place

# Builder, materials and amount of clutter make a place.
Maker = Callable[[PatchBuilder, Palette, float], Place]
MAKERS: dict[str, Maker] = {
    "street": make_street,
    "room": make_room,
    "field": make_field,
    "courtyard": make_courtyard,
    "table": make_table,
    "aerial": make_aerial,
}
