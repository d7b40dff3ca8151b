"""``fastbox system df``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from . import human, images, output, ps, volume_ls
from .command import App, FlagCommand
from .errors import TemplateError
from .flags import Flag, Switch, Values
from .listing import FORMAT
from .tables import Row, align, html_safe, render, unescape

if TYPE_CHECKING:
    from ..container.record import Container
    from ..image.types import ImageUsage
    from ..usage import DiskUsage, VolumeUsage

HEADERS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
_IMAGES = "Repository Tag ID CreatedSince Size SharedSize UniqueSize Containers"
_CONTAINERS = "ID Image Command LocalVolumes Size RunningFor Status Names"
_CACHE = "CACHE ID\tCACHE TYPE\tSIZE\tCREATED\tLAST USED\tUSAGE\tSHARED"


def df(app: App, values: Values, words: list[str]) -> int:
    """Show how much disk images, containers and volumes take."""
    usage = app.engine.system_df()
    format = values.format or ""
    if not values.verbose:
        output.write(
            render(
                summary(usage),
                format=format,
                default="Type\tTotalCount\tActive\tSize\tReclaimable",
                headers=HEADERS,
                type_name="*formatter.diskUsageImagesContext",
            )
        )
    elif format in ("", "table"):
        output.write(_sections(usage))
    else:
        output.write(_verbose(usage, format))
    return 0


# ---- the four rows -------------------------------------------------------------------------------


def summary(usage: DiskUsage) -> list[Row]:
    """Images, containers, volumes, build cache."""
    of_images = usage.images.images
    boxes = [(box.state.status.is_active, box.size_rw or 0) for box in usage.containers]
    volumes = [(volume.links > 0, volume.size or 0) for volume in usage.volumes]
    return [
        _row(
            "Images",
            [image.containers > 0 for image in of_images],
            usage.images.size,
            usage.images.reclaimable,
        ),
        _row("Containers", [up for up, _ in boxes], *_sums(boxes)),
        _row("Local Volumes", [used for used, _ in volumes], *_sums(volumes)),
        _row("Build Cache", [], 0, 0),
    ]


def _sums(objects: Iterable[tuple[bool, int]]) -> tuple[int, int]:
    """(bytes of all, bytes of those that are not in use)."""
    pairs = list(objects)
    return sum(size for _, size in pairs), sum(size for used, size in pairs if not used)


def _row(kind: str, active: list[bool], size: int, reclaimable: int) -> Row:
    text = human.size(reclaimable, 4)
    if size:
        text += f" ({reclaimable * 100 // size}%)"
    return {
        "Active": lambda: str(sum(active)),
        "Reclaimable": lambda: text,
        "Size": lambda: human.size(size, 4),
        "TotalCount": lambda: str(len(active)),
        "Type": lambda: kind,
    }


# ---- -v ------------------------------------------------------------------------------------------


def _sections(usage: DiskUsage) -> str:
    headers = {**images.HEADERS, "CreatedSince": "CREATED"}
    rows = _rows(usage, trunc=True)
    parts = [
        _section("Images", rows["Images"], _IMAGES, headers),
        _section("Containers", rows["Containers"], _CONTAINERS, ps.HEADERS),
        _section("Local Volumes", rows["Volumes"], "Name Links Size", volume_ls.HEADERS),
        "Build cache usage: 0B\n\n" + align([_CACHE]),
    ]
    return "\n".join(parts)


def _section(name: str, rows: list[Row], fields: str, headers: dict[str, str]) -> str:
    table = render(
        rows, format="", default=fields.replace(" ", "\t"), headers=headers, type_name=""
    )
    assert isinstance(table, str)
    return f"{name} space usage:\n\n{table}"


def _rows(usage: DiskUsage, *, trunc: bool) -> dict[str, list[Row]]:
    return {
        "Images": [_image_row(image, trunc) for image in usage.images.images],
        "Containers": [_container_row(box, trunc) for box in usage.containers],
        "Volumes": [_volume_row(volume) for volume in usage.volumes],
        "BuildCache": [],
    }


def _image_row(usage: ImageUsage, trunc: bool) -> Row:
    name = images.lines_of(usage.image, digests=False)[0]
    return {
        **images.row(*name, trunc=trunc),
        "Containers": lambda: str(usage.containers),
        "SharedSize": lambda: human.size(usage.shared, 4),
        "Size": lambda: human.size(usage.size),
        "UniqueSize": lambda: human.size(usage.unique, 4),
        "VirtualSize": lambda: human.size(usage.size, 4),
    }


def _container_row(box: Container, trunc: bool) -> Row:
    return {**ps.row(box, trunc=trunc), "Size": lambda: human.size(box.size_rw or 0)}


def _volume_row(usage: VolumeUsage) -> Row:
    return {
        **volume_ls.row(usage.volume),
        "Links": lambda: str(usage.links),
        "Size": lambda: "N/A" if usage.size is None else human.size(usage.size),
    }


def _verbose(usage: DiskUsage, format: str) -> str | bytes:
    """All as one object: JSON, or what a template makes of it."""
    from . import template

    rows = _rows(usage, trunc=False)
    if format == "json":
        import orjson

        plain = {kind: [_plain(row) for row in some] for kind, some in rows.items()}
        return html_safe(orjson.dumps(plain))
    lists: dict[str, Callable[..., Any]] = {
        kind: lambda some=some: [template.Row(row, "*formatter.Context") for row in some]
        for kind, some in rows.items()
    }
    text = format[5:].strip() if format.startswith(("table ", "table\t")) else format
    try:
        parsed = template.parse(unescape(text))
        return parsed.execute(template.Row(lists, "*formatter.diskUsageContext"))
    except template.SyntaxProblem as error:
        raise TemplateError(f"template parsing error: {error}") from None
    except template.ExecutionProblem as error:
        raise TemplateError(str(error)) from None


def _plain(row: Row) -> dict[str, str]:
    return {name: str(row[name]()) for name in sorted(row) if not name.startswith("_")}


COMMAND = FlagCommand(
    "system_df",
    df,
    "",
    (FORMAT, Flag("-v --verbose", Switch(), "Show detailed information on space usage")),
    most=0,
)
