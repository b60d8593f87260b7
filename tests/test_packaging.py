"""What an installed BraidMQ is: every package of the tree, importable beside an application that
has its own `storage` and `broker`, quick to import and small on disk."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
STOREYS = ["benchmarks", "broker", "protocols", "storage"]
IMPORT_MS_MAX = 150
INSTALL_BYTES_MAX = 20_000_000
# What `import braidmq.broker` must not pull in: an embedding program pays for none of it.
SERVER_CODE = [
    "argon2",
    "braidmq.benchmarks",
    "braidmq.protocols",
    "click",
    "cronsim",
    "cryptography",
    "httpcore2",
    "httptools",
    "jwt",
    "uvloop",
]


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def package_folders() -> list[Path]:
    return sorted(
        init.parent.relative_to(ROOT)
        for top in STOREYS
        for init in (ROOT / top).rglob("__init__.py")
    )


def run_python(*args: str, cwd: Path) -> str:
    """Run a fresh interpreter; its output, or a failed test that shows what it said."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, *args], cwd=cwd, env=clean, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, f"{args[:3]} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that no `build/` folder or stale file takes part."""
    tree = tmp_path_factory.mktemp("tree")
    for top in STOREYS:
        shutil.copytree(ROOT / top, tree / top, ignore=shutil.ignore_patterns("__pycache__"))
    files = ["pyproject.toml", "LICENSE", project()["project"].get("readme", "LICENSE")]
    for name in files:
        shutil.copy(ROOT / name, tree)
    run_python("-m", "build", "--wheel", "--no-isolation", "--outdir", "out", cwd=tree)
    [built] = (tree / "out").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as pip leaves it, apart from the checkout."""
    target = tmp_path_factory.mktemp("site")
    run_python(
        *("-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--no-index", "--target", str(target), str(wheel)),
        cwd=target,
    )
    return target


def test_packages_are_the_folders_on_disk():
    listed = project()["tool"]["setuptools"]["packages"]
    on_disk = [".".join(["braidmq", *folder.parts]) for folder in package_folders()]
    assert sorted(listed) == on_disk, "list every package under [tool.setuptools] in pyproject.toml"


def test_every_top_folder_is_mapped_and_linked():
    """setuptools maps the folders; the links show the same namespace to mypy."""
    mapping = project()["tool"]["setuptools"]["package-dir"]
    assert mapping == {f"braidmq.{top}": top for top in STOREYS}
    for top in STOREYS:
        link = ROOT / "tests" / "typings" / "braidmq" / top
        assert link.is_symlink() and link.resolve() == ROOT / top


def test_every_package_is_typed():
    untyped = [str(f) for f in package_folders() if not (ROOT / f / "py.typed").is_file()]
    assert not untyped, f"py.typed is missing in {untyped}"


def test_there_is_no_code_outside_the_packages():
    """A folder of modules without __init__.py would be left out of the wheel without a word."""
    folders = {
        module.parent.relative_to(ROOT) for top in STOREYS for module in (ROOT / top).rglob("*.py")
    }
    assert sorted(folders) == package_folders()


@pytest.mark.slow
def test_wheel_holds_every_module_and_nothing_else(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    kinds = (".py", ".toml", ".css", ".js", "py.typed", "PROTOCOL.md")
    expected = {
        f"braidmq/{path.relative_to(ROOT).as_posix()}"
        for top in STOREYS
        for path in (ROOT / top).rglob("*")
        if path.name.endswith(kinds)
    }
    assert expected == {name for name in names if ".dist-info/" not in name}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_imports_beside_a_host_with_the_same_names(installed: Path, tmp_path: Path):
    (tmp_path / "storage").mkdir()
    (tmp_path / "storage" / "__init__.py").write_text("OWNER = 'host'\n")
    (tmp_path / "broker.py").write_text("OWNER = 'host'\n")
    # -S: no .pth files, hence no editable install of the checkout; the dependencies by hand.
    script = f"""
import sys
sys.path[:0] = ["", {str(installed)!r}]
sys.path.append({sysconfig.get_path("platlib")!r})
import braidmq.broker, braidmq.storage, braidmq.protocols, broker, storage
assert broker.OWNER == storage.OWNER == "host"
print(braidmq.broker.__file__, braidmq.storage.__file__, sep="\\n")
"""
    files = run_python("-S", "-c", script, cwd=tmp_path).split()
    assert files == [
        str(installed / "braidmq" / top / "__init__.py") for top in ("broker", "storage")
    ]


@pytest.mark.slow
def test_command_is_installed(installed: Path):
    entry_points = installed.glob("braidmq-*.dist-info/entry_points.txt")
    assert [
        "braidmq = braidmq.protocols.cli:main" in path.read_text() for path in entry_points
    ] == [True]


@pytest.mark.slow
def test_import_is_quick_and_pulls_in_no_server_code(tmp_path: Path):
    """Processor time, because the machine is shared, and the least of five fresh processes."""
    script = """
import json, sys, time
start = time.process_time()
import braidmq.broker
print(json.dumps([1000 * (time.process_time() - start), sorted(sys.modules)]))
"""
    runs = [json.loads(run_python("-c", script, cwd=tmp_path)) for _ in range(5)]
    needless = set(SERVER_CODE) & set(runs[0][1])
    assert not needless, f"import braidmq.broker also imports {sorted(needless)}"
    assert min(took_ms for took_ms, _ in runs) < IMPORT_MS_MAX


def core_closure(
    name: str, extras: frozenset[str] = frozenset()
) -> dict[str, metadata.Distribution]:
    """The distributions that `pip install NAME` brings here, itself included."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [(name, extras)]
    while waiting:
        name, extras = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in found:
            continue
        found[key] = metadata.distribution(name)
        for requirement in map(Requirement, found[key].requires or []):
            wanted = [{"extra": extra} for extra in ["", *extras]]
            if not requirement.marker or any(map(requirement.marker.evaluate, wanted)):
                waiting.append((requirement.name, frozenset(requirement.extras)))
    return found


def sizes(distribution: metadata.Distribution) -> Iterator[int]:
    for file in distribution.files or []:
        path = Path(str(file.locate()))
        yield path.stat().st_size if path.is_file() else 0


@pytest.mark.slow
def test_core_install_is_small(installed: Path):
    closure = core_closure("braidmq")
    declared = {Requirement(line).name for line in project()["project"]["dependencies"]}
    assert declared <= set(closure) | {"uvloop"}
    bytes_of = {name: sum(sizes(each)) for name, each in closure.items() if name != "braidmq"}
    bytes_of["braidmq"] = sum(f.stat().st_size for f in installed.rglob("*") if f.is_file())
    assert all(bytes_of.values()), f"a distribution lists no files: {bytes_of}"
    total = sum(bytes_of.values())
    parts = ", ".join(f"{name} {size:,}" for name, size in sorted(bytes_of.items()))
    assert total < INSTALL_BYTES_MAX, f"{total:,} bytes, at most {INSTALL_BYTES_MAX:,}: {parts}"


def test_dependencies_are_capped_at_a_major_only():
    """An exact or minor pin is why people cannot embed a library."""
    extras = project()["project"]["optional-dependencies"].values()
    for line in [
        *project()["project"]["dependencies"],
        *(each for extra in extras for each in extra),
    ]:
        specifiers = list(Requirement(line).specifier)
        assert {each.operator for each in specifiers} <= {">=", "<"}, line
        caps = [each.version for each in specifiers if each.operator == "<"]
        assert all(cap.isdigit() for cap in caps), f"{line}: cap at the next major, if at all"
