"""The style of the house, as tests: each rule is one function, and settles the argument.

A checker takes a module (or a text) and returns problems as "file:line: what is wrong". The last
part of this file feeds every checker snippets that must fail, because a rule that cannot fail is
worth nothing. To change a rule, change the table at the top and say why in the commit.
"""

import ast
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatch
from functools import cache, cached_property
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Imports go down only: a module may import from its own storey or a lower one.
STOREYS = {"storage": 0, "broker": 1, "protocols": 2, "benchmarks": 3}

# IO lives in files you can count. What reads the world (files, sockets, clocks, threads, chance)
# may be imported by these modules and no other; everybody else gets it as an argument.
# Imports for annotations only (under `if TYPE_CHECKING:`) are free.
FILES = {"storage/disk.py"}
LOOP = {
    f"broker/{name}.py"
    for name in "runtime localverbs localstreams localgroups face topicface groupface received"
    " recordreader transactionface".split()
}
SERVER = {f"protocols/{name}.py" for name in ("server", "listener", "connection", "tls")}
DAEMON = {"protocols/daemon.py", "protocols/watchdog.py"}
WEBHOOKS = {"protocols/webhooks/client.py", "protocols/webhooks/sender.py"}
TOOLS = {"protocols/cli/*", "benchmarks/*"}
CLIENT = {f"protocols/native/{name}.py" for name in ("client", "topicclient", "streamclient")}
EDGE = SERVER | DAEMON | CLIENT | WEBHOOKS | TOOLS
MAY_IMPORT: dict[str, set[str]] = {
    "os": FILES | EDGE,
    "pathlib": FILES | LOOP | EDGE,
    "time": {"storage/writer.py"} | LOOP | EDGE,
    "concurrent": LOOP | WEBHOOKS | TOOLS,
    **dict.fromkeys(["fcntl", "mmap"], FILES),
    **dict.fromkeys(["shutil", "tempfile"], FILES | TOOLS),
    **dict.fromkeys(["threading", "queue"], {"storage/writer.py"} | DAEMON | TOOLS),
    # passwords.py: salts are random, and a hash takes a thread.
    **dict.fromkeys(["anyio", "secrets"], LOOP | EDGE | {"broker/passwords.py"}),
    **dict.fromkeys(["asyncio", "random", "uuid"], LOOP | EDGE),
    **dict.fromkeys(["socket", "select", "selectors", "ssl"], EDGE),
    **dict.fromkeys(["signal", "uvloop"], {"protocols/server.py"} | DAEMON | TOOLS),
    **dict.fromkeys(["click", "multiprocessing", "subprocess"], TOOLS),
}
# Calls that read the world without an import of their own, and the row above that governs them.
GOVERNED_CALLS = {"open": "os"}
GOVERNED_METHODS = {"now": "time", "utcnow": "time", "today": "time"}

# The hot modules take plain arguments: no await, no logging, no **kwargs.
HOT = {
    f"{folder}/{name}.py"
    for folder, names in {
        "storage": "frame record block runs commit cache log",
        "broker": "index state wheel lease turns affinity reader queue fifo engine core topiccore"
        " feed publishing selecting sendrun gathering"
        " router topictree tables publication topics sharing binding_index bindings fanout letters"
        " shard stream streams streamreading streamwaiting rates streamview viewlane viewreader",
        "protocols/native": "frames requestruns session queues streams",
        "protocols/mqtt": "primitives publish runs inbound outbound stored session",
        "protocols/stomp": "frames runs session sending messages sources wildcards acknowledging",
        "protocols/http": "frames websocket",
    }.items()
    for name in names.split()
}

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 600
# Exceptions, at their size of today: "path" for a file, "path::Class.function" for a function.
# A number may only go down; an entry that has become needless fails as well.
RATCHET: dict[str, int] = {}
RATCHET_SLACK = 10

# Code that runs data, or formats that do.
BANNED_IMPORTS = {"pickle", "cPickle", "dill", "marshal", "shelve", "yaml"}
BANNED_CALLS = {"eval", "exec", "__import__"}

# Modules without a test file of their own, each with the reason.
UNTESTED: dict[str, str] = {}

# Spelled in pieces, so that this file does not find itself.
UNFINISHED = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]) + r")\b")
PRIVATE_PATH = re.compile(
    r"(?<![\w./-])/(" + "|".join(["wo" + "rk", "ro" + "ot", "fa" + "rm"]) + ")/"
)

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef


class Module:
    """A Python file: its path in the repository, its text, and its tree."""

    def __init__(self, path: str, source: str) -> None:
        self.path = path
        self.source = source

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source, self.path)

    @cached_property
    def for_annotations(self) -> set[ast.AST]:
        """Every node under an `if TYPE_CHECKING:`."""
        return {
            inner
            for node in ast.walk(self.tree)
            if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
            for statement in node.body
            for inner in ast.walk(statement)
        }

    def at(self, node: ast.AST, text: str) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}: {text}"


# --- what is looked at ---


@cache
def repository_files() -> list[str]:
    """Every file git knows or would add; in an unpacked archive, every file."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        names = listed.stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        names = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*")]
        names = [name for name in names if not re.search(r"(^|/)(\.|__pycache__|build/)", name)]
    return sorted(
        name for name in set(names) if (ROOT / name).is_file() and not (ROOT / name).is_symlink()
    )


@cache
def texts() -> dict[str, str]:
    """The repository's text files, by path."""
    contents = {name: (ROOT / name).read_bytes() for name in repository_files()}
    return {
        name: content.decode("utf-8", "replace")
        for name, content in contents.items()
        if b"\0" not in content
    }


@cache
def all_modules() -> list[Module]:
    return [Module(name, text) for name, text in texts().items() if name.endswith(".py")]


@cache
def house_modules() -> list[Module]:
    """The modules that ship: those of the four packages."""
    return [module for module in all_modules() if module.path.split("/")[0] in STOREYS]


def fail_on(problems: Iterable[str]) -> None:
    found = list(problems)
    assert not found, "\n" + "\n".join(found)


def check_each(check: Callable[[Module], Iterator[str]], modules: list[Module]) -> None:
    assert modules, "nothing to check: are the packages where this test looks?"
    fail_on(problem for module in modules for problem in check(module))


# --- the checkers ---


def imported_names(node: ast.AST) -> list[str]:
    """The absolute module names that an import statement names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [node.module or ""]
    return []


def import_targets(path: str, node: ast.ImportFrom) -> list[list[str]]:
    """The packages that a relative import reaches, as parts below the namespace."""
    folder = list(PurePosixPath(path).parent.parts)
    up = node.level - 1
    if up > len(folder):
        return [["(above the namespace)"]]
    base = folder[: len(folder) - up] + (node.module.split(".") if node.module else [])
    return [base] if base else [[alias.name] for alias in node.names]


def check_import_direction(module: Module) -> Iterator[str]:
    own = module.path.split("/")[0]
    for node in ast.walk(module.tree):
        for name in imported_names(node):
            if name.split(".")[0] in {"braidmq", *STOREYS}:
                yield module.at(node, f"import {name} by a relative import")
        if isinstance(node, ast.ImportFrom) and node.level > 0:
            for target in import_targets(module.path, node):
                if target[0] not in STOREYS:
                    yield module.at(node, f"{target[0]} is none of {', '.join(STOREYS)}")
                elif STOREYS[target[0]] > STOREYS[own]:
                    yield module.at(node, f"{own} may not import {target[0]}: imports go down only")


def check_io(module: Module) -> Iterator[str]:
    def forbidden(name: str) -> bool:
        return name in MAY_IMPORT and not any(fnmatch(module.path, p) for p in MAY_IMPORT[name])

    for node in ast.walk(module.tree):
        if node in module.for_annotations:
            continue
        for name in imported_names(node):
            if forbidden(name.split(".")[0]):
                yield module.at(node, f"{name} may not be imported here (MAY_IMPORT in {__name__})")
        if isinstance(node, ast.Call):
            called, table = node.func, {}
            if isinstance(called, ast.Name):
                table, name = GOVERNED_CALLS, called.id
            elif isinstance(called, ast.Attribute) and "date" in ast.unparse(called.value):
                table, name = GOVERNED_METHODS, called.attr
            if table and name in table and forbidden(table[name]):
                yield module.at(node, f"{name}() reads the world: take its result as an argument")


def check_hot(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        match node:
            case ast.Await() | ast.AsyncFunctionDef() | ast.AsyncFor() | ast.AsyncWith():
                yield module.at(node, "no await or async in a hot module")
            case ast.arguments(kwarg=ast.arg() as star):
                yield module.at(star, f"no **{star.arg} in a hot module")
            case ast.Call(keywords=keywords) if any(word.arg is None for word in keywords):
                yield module.at(node, "no call with ** in a hot module")
        if any(name.split(".")[0] == "logging" for name in imported_names(node)):
            yield module.at(node, "no logging in a hot module")


def check_docstring(module: Module) -> Iterator[str]:
    if not (ast.get_docstring(module.tree) or "").strip():
        yield f"{module.path}:1: the module has no docstring: say why it exists and its rules"


def top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, and those inside its top-level if, try and with."""
    for statement in body:
        yield statement
        for field in ("body", "orelse", "finalbody", "handlers"):
            if not isinstance(statement, Definition):
                inner = getattr(statement, field, [])
                for part in inner:
                    yield from top_level(part.body if field == "handlers" else [part])


def bound_names(statement: ast.stmt) -> Iterator[str]:
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield statement.name
        case ast.Import() | ast.ImportFrom():
            for alias in statement.names:
                yield (alias.asname or alias.name).split(".")[0]
        case ast.Assign(targets=targets):
            for target in targets:
                yield from (n.id for n in ast.walk(target) if isinstance(n, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()):
            yield name


def exported_names(tree: ast.Module) -> tuple[ast.stmt, list[str]] | None:
    """The statement that sets `__all__`, and its names; None if there is none to read."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value:
            if "__all__" in bound_names(statement):
                try:
                    return statement, list(ast.literal_eval(statement.value))
                except (ValueError, TypeError):
                    return None
    return None


def check_exports(module: Module) -> Iterator[str]:
    found = exported_names(module.tree)
    if found is None:
        yield f"{module.path}:1: __all__ is missing, or is not a plain list of names"
        return
    statement, exported = found
    statements = list(top_level(module.tree.body))
    functions = {s.name for s in statements if isinstance(s, ast.FunctionDef)}
    lazy = "__getattr__" in functions  # then names may be bound for the type checker only
    defined = {
        name
        for each in statements
        if lazy or each not in module.for_annotations
        for name in bound_names(each)
    }
    for name in exported:
        if name not in defined:
            yield module.at(statement, f"__all__ names {name}, which is not defined")
        if exported.count(name) > 1:
            yield module.at(statement, f"__all__ names {name} twice")
    for each in statements:
        if isinstance(each, Definition) and not each.name.startswith("_"):
            if each.name not in exported:
                yield module.at(each, f"{each.name} is public but not in __all__")


def function_sizes(module: Module) -> Iterator[tuple[str, int, int]]:
    """(path::qualified name, line, lines) of every function, methods and inner ones too."""

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, int, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Definition):
                name = f"{prefix}{child.name}"
                if isinstance(child, Function):
                    last = child.end_lineno or child.lineno
                    yield f"{module.path}::{name}", child.lineno, last - child.lineno + 1
                yield from walk(child, name + ".")
            else:
                yield from walk(child, prefix)

    yield from walk(module.tree, "")


def check_function_length(module: Module, ratchet: dict[str, int] = RATCHET) -> Iterator[str]:
    for key, line, size in function_sizes(module):
        allowed = ratchet.get(key, FUNCTION_LINES_MAX)
        if size > allowed:
            name = key.split("::")[1]
            yield f"{module.path}:{line}: {name} has {size} lines, at most {allowed} are allowed"


def check_file_length(module: Module, ratchet: dict[str, int] = RATCHET) -> Iterator[str]:
    size = len(module.source.splitlines())
    allowed = ratchet.get(module.path, FILE_LINES_MAX)
    if size > allowed:
        yield f"{module.path}:{size}: the file has {size} lines, at most {allowed} are allowed"


def check_ratchet(ratchet: dict[str, int], modules: list[Module]) -> Iterator[str]:
    sizes = {module.path: len(module.source.splitlines()) for module in modules}
    for module in modules:
        sizes.update({key: size for key, _, size in function_sizes(module)})
    for key, allowed in ratchet.items():
        limit = FUNCTION_LINES_MAX if "::" in key else FILE_LINES_MAX
        size = sizes.get(key, 0)
        if size <= limit:
            yield f"RATCHET: {key} has {size} lines and needs no exception: remove the entry"
        elif allowed > size + RATCHET_SLACK:
            yield f"RATCHET: {key} has {size} lines now: lower its entry of {allowed}"


def check_banned(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        for name in imported_names(node):
            if name.split(".")[0] in BANNED_IMPORTS:
                yield module.at(node, f"{name} is banned: it can run what it reads")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in BANNED_CALLS:
                yield module.at(node, f"{node.func.id}() is banned")


def check_lines(pattern: re.Pattern[str], why: str) -> Callable[[str, str], Iterator[str]]:
    """Make a checker of texts that reports every line which matches the pattern."""

    def check(path: str, text: str) -> Iterator[str]:
        for number, line in enumerate(text.splitlines(), 1):
            if found := pattern.search(line):
                yield f"{path}:{number}: {found[0]}: {why}"

    return check


check_unfinished = check_lines(UNFINISHED, "finish it, or open an issue and leave the code clean")
check_private_paths = check_lines(PRIVATE_PATH, "a path of one machine; use a relative one")


def check_title(path: str, text: str) -> Iterator[str]:
    titles, fence = [], ""
    for number, line in enumerate(text.splitlines(), 1):
        mark = re.match(r"\s*(```+|~~~+)", line)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence):
            fence = ""
        elif not fence and line.startswith("# "):
            titles.append(number)
    if len(titles) != 1:
        line_number = titles[1] if titles else 1
        yield f"{path}:{line_number}: a document has exactly one '# Title', this has {len(titles)}"


def check_mirror(path: str, files: set[str]) -> Iterator[str]:
    """storage/log.py is tested by tests/unit/storage/test_log.py.

    protocols/native/frames.py by tests/unit/protocols/native/test_frames.py, or, without the
    folder, by tests/unit/protocols/test_native_frames.py.
    """
    storey, *folders, name = path.removesuffix(".py").split("/")
    if name.startswith("_"):
        return
    mirror = "/".join(["tests/unit", storey, *folders, f"test_{name}.py"])
    flat = f"tests/unit/{storey}/test_{'_'.join([*folders, name])}.py"
    if mirror not in files and flat not in files:
        yield f"{path}:1: has no test file: write {mirror}"


# --- the rules ---


def test_imports_between_packages_are_relative_and_go_down():
    check_each(check_import_direction, house_modules())


def test_only_listed_modules_touch_the_world():
    check_each(check_io, house_modules())


def test_hot_modules_are_plain():
    fail_on(p for module in house_modules() if module.path in HOT for p in check_hot(module))


def test_every_module_says_why_it_exists():
    check_each(check_docstring, all_modules())


def test_all_is_the_contract_of_a_module():
    check_each(check_exports, house_modules())


def test_functions_fit_a_screen():
    check_each(check_function_length, all_modules())


def test_files_can_be_read_in_one_sitting():
    check_each(check_file_length, all_modules())


def test_the_ratchet_only_goes_down():
    fail_on(check_ratchet(RATCHET, all_modules()))


def test_nothing_runs_data():
    check_each(check_banned, all_modules())


def test_nothing_is_left_unfinished():
    fail_on(p for path, text in texts().items() for p in check_unfinished(path, text))


def test_every_module_has_its_test_file():
    files = set(repository_files())
    paths = [m.path for m in house_modules() if not m.path.startswith("benchmarks/")]
    fail_on(p for path in paths if path not in UNTESTED for p in check_mirror(path, files))


def test_exemptions_from_tests_are_still_needed():
    files = set(repository_files())
    needless = [path for path in UNTESTED if path not in files or not [*check_mirror(path, files)]]
    assert not needless, f"UNTESTED lists files that are gone or tested: {needless}"


def test_documents_have_one_title():
    documents = {path: text for path, text in texts().items() if path.endswith(".md")}
    fail_on(p for path, text in documents.items() for p in check_title(path, text))


def test_no_path_of_one_machine():
    fail_on(p for path, text in texts().items() for p in check_private_paths(path, text))


# --- the checkers can fail ---

LONG_FUNCTION = "def f():\n" + "    pass\n" * FUNCTION_LINES_MAX

BAD_MODULES = [
    (check_import_direction, "broker/a.py", "import braidmq.storage", "relative"),
    (check_import_direction, "broker/a.py", "from storage.log import Log", "relative"),
    (check_import_direction, "storage/a.py", "from ..broker.b import B", "imports go down only"),
    (check_import_direction, "broker/a.py", "from .. import protocols", "imports go down only"),
    (check_import_direction, "broker/__init__.py", "from ..protocols import x", "go down only"),
    (check_import_direction, "protocols/native/a.py", "from ...benchmarks import b", "go down"),
    (check_import_direction, "broker/a.py", "from ..elsewhere import x", "is none of"),
    (check_import_direction, "broker/a.py", "from ....far import x", "is none of"),
    (check_import_direction, "storage/a.py", "def f():\n    from ..broker import b", "a.py:2:"),
    (check_io, "broker/queue.py", "import time", "may not be imported"),
    (check_io, "broker/queue.py", "from os.path import join", "may not be imported"),
    (check_io, "broker/queue.py", "def f():\n    import asyncio", "queue.py:2:"),
    (check_io, "storage/log.py", "x = open('a')", "open()"),
    (check_io, "broker/queue.py", "x = datetime.datetime.now(UTC)", "now()"),
    (check_io, "broker/queue.py", "x = date.today()", "today()"),
    (check_hot, "broker/queue.py", "async def f(): pass", "no await"),
    (check_hot, "broker/queue.py", "async def f():\n    await g()", "queue.py:2:"),
    (check_hot, "broker/queue.py", "def f(**more): pass", "**more"),
    (check_hot, "broker/queue.py", "f = lambda **more: 0", "**more"),
    (check_hot, "broker/queue.py", "f(**more)", "no call with **"),
    (check_hot, "broker/queue.py", "from logging import getLogger", "no logging"),
    (check_docstring, "broker/a.py", "import x", "no docstring"),
    (check_docstring, "broker/a.py", "'''  '''", "no docstring"),
    (check_exports, "broker/a.py", "x = 1", "__all__ is missing"),
    (check_exports, "broker/a.py", "__all__ = names()", "__all__ is missing"),
    (check_exports, "broker/a.py", "__all__ = ['x']", "names x, which is not defined"),
    (check_exports, "broker/a.py", "__all__ = ['x', 'x']\nx = 1", "twice"),
    (check_exports, "broker/a.py", "__all__ = []\nclass A: pass", "a.py:2: A is public"),
    (check_exports, "broker/a.py", "__all__ = []\nif 1:\n    def f(): pass", "f is public"),
    (check_exports, "broker/a.py", "__all__ = ['x']\nx: int", "names x"),
    (check_exports, "a.py", "__all__ = ['x']\nif TYPE_CHECKING:\n    from b import x", "names x"),
    (check_function_length, "broker/a.py", LONG_FUNCTION, "f has 71 lines"),
    (check_function_length, "a.py", f"class A:\n  x = 1\n  {LONG_FUNCTION}", "A.f has 71 lines"),
    (check_file_length, "broker/a.py", "x = 1\n" * (FILE_LINES_MAX + 1), "601 lines"),
    (check_banned, "tests/a.py", "import pickle", "pickle is banned"),
    (check_banned, "broker/a.py", "from yaml import load", "yaml is banned"),
    (check_banned, "broker/a.py", "x = eval('1')", "eval() is banned"),
]

GOOD_MODULES = [
    (check_import_direction, "broker/a.py", "from ..storage.log import Log\nfrom . import b"),
    (check_import_direction, "broker/a.py", "from .. import storage\nimport msgspec"),
    (check_import_direction, "protocols/native/a.py", "from ..s import S\nfrom ...broker import B"),
    (check_import_direction, "protocols/__init__.py", "from .s import S\nfrom ..broker import B"),
    (check_io, "storage/disk.py", "import os\nx = open('a')"),
    (check_io, "protocols/cli/queue.py", "import asyncio, time"),
    (check_io, "broker/queue.py", "import heapq\nx = clock.now()\ny = self.open()"),
    (check_io, "broker/queue.py", "if TYPE_CHECKING:\n    import asyncio"),
    (check_hot, "broker/queue.py", "def f(*, many=1): g(*many, key=2)"),
    (check_docstring, "broker/a.py", "'''Why.'''"),
    (check_exports, "broker/a.py", "__all__ = ['A', 'b']\nclass A: pass\nfrom .c import b"),
    (check_exports, "broker/a.py", "__all__: list[str] = []\ndef _f(): pass\nX = 1"),
    (
        check_exports,
        "broker/__init__.py",
        "__all__ = ['x']\nif TYPE_CHECKING:\n    from .b import x\ndef __getattr__(name): ...",
    ),
    (check_function_length, "broker/a.py", LONG_FUNCTION.replace("    pass\n", "", 1)),
    (check_file_length, "broker/a.py", "x = 1\n" * FILE_LINES_MAX),
    (check_banned, "broker/a.py", "import json\nx = self.exec('1')"),
]


@pytest.mark.parametrize(("check", "path", "source", "expected"), BAD_MODULES)
def test_checker_finds(check, path, source, expected):
    problems = list(check(Module(path, source)))
    assert problems and all(re.match(r"\S+:\d+: ", problem) for problem in problems)
    assert any(expected in problem for problem in problems), problems


@pytest.mark.parametrize(("check", "path", "source"), GOOD_MODULES)
def test_checker_accepts(check, path, source):
    assert list(check(Module(path, source))) == []


def test_ratchet_admits_the_size_of_today_and_no_more():
    module = Module("a.py", LONG_FUNCTION)
    assert not [*check_function_length(module, {"a.py::f": 71})]
    assert [*check_function_length(Module("a.py", LONG_FUNCTION + "    pass"), {"a.py::f": 71})]
    assert not [*check_ratchet({"a.py::f": 71 + RATCHET_SLACK}, [module])]


@pytest.mark.parametrize("ratchet", [{"a.py::f": 82}, {"a.py": 700}, {"gone.py": 700}])
def test_stale_ratchet_fails(ratchet):
    assert len([*check_ratchet(ratchet, [Module("a.py", LONG_FUNCTION)])]) == 1


@pytest.mark.parametrize("word", ["TO" + "DO", "FIX" + "ME", "XX" + "X"])
def test_unfinished_words_are_found(word):
    [problem] = check_unfinished("a.py", f"x = 1\n# {word}: later")
    assert problem.startswith("a.py:2: ")
    assert not [*check_unfinished("a.py", f"{word}S{word.lower()}")]


@pytest.mark.parametrize("folder", ["wo" + "rk", "ro" + "ot", "fa" + "rm"])
def test_private_paths_are_found(folder):
    assert [*check_private_paths("a.md", f"see `/{folder}/notes`")]
    assert not [*check_private_paths("a.md", f"see docs/{folder}/notes and https://x.y/{folder}/z")]


@pytest.mark.parametrize(
    ("text", "line"), [("no title", 1), ("# a\n\n# b", 3), ("```\n# a\n```", 1), ("## a", 1)]
)
def test_documents_without_one_title_are_found(text, line):
    assert [problem.split(": ")[0] for problem in check_title("a.md", text)] == [f"a.md:{line}"]


@pytest.mark.parametrize(
    "text", ["# a\n## b", "# a\n```sh\n# comment\n```", "x\n# a\n~~~\n# b\n~~~"]
)
def test_documents_with_one_title_pass(text):
    assert not [*check_title("a.md", text)]


def test_mirror_accepts_the_folder_or_the_flat_name():
    path = "protocols/native/frames.py"
    assert [*check_mirror(path, {"tests/unit/protocols/test_frames.py"})]
    assert not [*check_mirror(path, {"tests/unit/protocols/native/test_frames.py"})]
    assert not [*check_mirror(path, {"tests/unit/protocols/test_native_frames.py"})]
    assert not [*check_mirror("protocols/native/__init__.py", set())]
