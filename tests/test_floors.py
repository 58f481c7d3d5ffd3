"""The house: imports go down only, and rooms on one floor do not import each other."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "gradflow"
FLOORS = (
    {"_devices", "compiled"},
    {
        *("_blame", "_linalg", "_packing", "_parameters", "_spec", "_spectral", "_yaml"),
        *("progress", "trajectory"),
    },
    {"problem", "save_times", "solvers", "analysis"},
    {"fields", "mesh", "observables", "plotting", "storage"},
    {"recording"},
    {"spectra", "invariants"},
    {"descent", "flow", "tasks"},
    {"comparison", "critical_points", "ensemble"},
    {"scaling"},
    {"_faults", "_sweeps"},
    {"config"},
    {"manifest", "building", "processes"},
    {"report"},
    {"experiment", "doctor"},
    {"sweep"},
    {"cli"},
    {"__main__"},
)
FLOOR = {room: i for i, floor in enumerate(FLOORS) for room in floor}
# Inside a function only: a record draws itself when it is asked to.
UPWARDS = {("trajectory", "plotting")}
# Heavy imports that only one room may have.
OWNERS = {"matplotlib": "plotting", "netCDF4": None, "rich": "progress", "click": "cli"}
OWNERS |= {"dask": "sweep", "distributed": "sweep"}


def imports():
    """Every import inside the package: (room, imported room or package, line, whether at once)."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        room = parts[0]
        tree = ast.parse(path.read_text())
        typing_only = {
            id(node)
            for block in ast.walk(tree)
            if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
            for node in ast.walk(block)
        }
        for node in ast.walk(tree):
            if id(node) in typing_only:
                continue
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield room, alias.name.split(".")[0], node.lineno, not node.col_offset
            elif isinstance(node, ast.ImportFrom):
                depth = len(parts) - node.level
                if node.level == 0:
                    yield room, (node.module or "").split(".")[0], node.lineno, not node.col_offset
                elif depth == 0:
                    names = [node.module] if node.module else [a.name for a in node.names]
                    for name in names:
                        yield (
                            room,
                            "gradflow." + name.split(".")[0],
                            node.lineno,
                            not node.col_offset,
                        )


def test_every_room_has_a_floor():
    rooms = {p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in PACKAGE.rglob("*.py")}
    assert rooms - {"__init__"} == set(FLOOR)


def test_imports_go_down_only():
    wrong = []
    for room, imported, line, at_import in imports():
        target = imported.removeprefix("gradflow.")
        if room == "__init__" or not imported.startswith("gradflow.") or target == room:
            continue
        if (room, target) in UPWARDS and not at_import:
            continue
        if target in FLOOR and FLOOR[target] >= FLOOR[room]:
            wrong.append(f"{room}:{line} imports {target}")
    assert not wrong


def test_heavy_libraries_stay_in_their_rooms():
    for room, imported, line, _ in imports():
        if OWNERS.get(imported) and room != "experiment":
            assert room == OWNERS[imported], f"{room}:{line} imports {imported}"


def test_only_the_last_floors_know_yaml():
    for room, imported, *_ in imports():
        if imported == "yaml":
            assert room == "_yaml"
        if imported == "gradflow._yaml":
            assert FLOOR[room] >= FLOOR["_faults"]


def test_benchmarks_import_what_is_there():
    """Those that the suite does not run too."""
    root = PACKAGE.parent
    for path in sorted((root / "benchmarks").rglob("*.py")):
        package = path.relative_to(root).with_suffix("").parts[:-1]
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom):
                continue
            base = package[: len(package) - node.level + 1] if node.level else ()
            name = [*base, *(node.module.split(".") if node.module else ())]
            if name[0] != "benchmarks":
                continue
            place = root.joinpath(*name)
            file = place.with_suffix(".py")
            if not file.exists():
                file = place / "__init__.py"
            assert file.exists(), f"{path}:{node.lineno} imports {'.'.join(name)}"
            known = file.read_text()
            for alias in node.names:
                there = (place / f"{alias.name}.py").exists() or (place / alias.name).is_dir()
                assert there or alias.name in known, f"{path}:{node.lineno}: no {alias.name}"
