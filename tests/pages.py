"""What stands on a page: its curves, its numbers, and that nothing stands on anything else."""

import itertools


def curves(ax):
    """The curves by label; marks and reference lines have none."""
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def ticks(axis):
    """The numbers along an axis."""
    axis.get_figure().draw_without_rendering()
    low, high = axis.get_view_interval()
    marked = (tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high)
    return {tick.label1.get_text(): tick.label1 for tick in marked if tick.label1.get_visible()}


def check_apart(drawn):
    """That no text and no legend leaves the page or stands on another or on the axes."""
    drawn.draw_without_rendering()
    things = {f"legend {i}": legend for i, legend in enumerate(drawn.legends)}
    things |= {text.get_text(): text for text in drawn.texts}
    for i, ax in enumerate(drawn.axes):
        things |= {f"{i}: {text.get_text()}": text for text in ax.texts}
        for axis in (ax.xaxis, ax.yaxis):
            things[f"{i}: {axis.label.get_text()}"] = axis.label
            things |= {f"{i}, {axis.axis_name}: {text}": tick for text, tick in ticks(axis).items()}
    boxes = {name: thing.get_window_extent() for name, thing in things.items()}
    boxes = {name: box for name, box in boxes.items() if box.width > 0}
    for name, box in boxes.items():
        assert drawn.bbox.x0 <= box.x0 < box.x1 <= drawn.bbox.x1, f"{name} leaves the page"
        assert drawn.bbox.y0 <= box.y0 < box.y1 <= drawn.bbox.y1, f"{name} leaves the page"
    boxes |= {f"axes {i}": ax.bbox for i, ax in enumerate(drawn.axes)}
    for (a, one), (b, other) in itertools.combinations(boxes.items(), 2):
        assert not one.overlaps(other), f"{a} stands on {b}"
