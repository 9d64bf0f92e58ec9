"""The documents: what they link to is there, and what they tell people to type exists. Text only, no model."""

import contextlib
import functools
import io
import itertools
import re
import shlex
from pathlib import Path

import pytest

from maeref_jax.commands import command_line, main, train

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def named(path):
    return path.relative_to(ROOT).as_posix()


every_page = pytest.mark.parametrize("page", PAGES, ids=named)


def text_of(path):
    return path.read_text(encoding="utf-8")


def blocks(page):
    """The lines of code of a page, indented or fenced; a line that ends in a backslash goes on in the next one."""
    lines, fenced = [], False
    for line in text_of(page).splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or (line.startswith("    ") and not line.lstrip().startswith(("-", "!", "*"))):
            lines.append(line.strip())
    return re.sub(r"\\\n", " ", "\n".join(lines)).splitlines()


def spans(page):
    """What stands between single backticks, on one line or broken over two."""
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(found.split()) for found in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose)]


def typed(page):
    """[(command, its arguments)] of everything that a page says is typed."""
    found = []
    for line in [*blocks(page), *(span for span in spans(page) if span.startswith("maeref "))]:
        words = shlex.split(line, comments=True) if "maeref " in line else []
        if "maeref" in words and (rest := words[words.index("maeref") + 1 :]):
            found.append((rest[0], [word for word in rest[1:] if word != "…"]))
    return found


@functools.cache
def flags_of(command):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit):
        main.run(command, ["--help"])
    return {*re.findall(r"--\w+", said.getvalue())}


@functools.cache
def keys():
    """The settings, and groups of them, of all configs that a command takes."""

    def walk(tree, prefix=""):
        for key, value in tree.items():
            yield prefix + key
            if hasattr(value, "items"):
                yield from walk(value, f"{prefix}{key}.")

    files = (path for path in command_line.CONFIGS.glob("*.py") if "MODES" in text_of(path))
    return {key for path in files for key in walk(command_line.load_config(path.stem))}


@every_page
def test_links_and_pictures_are_there(page):
    for link in LINK.findall(text_of(page)):
        if "://" in link:
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), f"{named(page)}: {link}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", text_of(target), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{named(page)}: {link}"


@every_page
def test_commands_and_their_flags_exist(page):
    for command, arguments in typed(page):
        if command.startswith("-") or command == "COMMAND":
            continue
        assert command in main.COMMANDS, f"{named(page)}: maeref {command}"
        given = {word.partition("=")[0] for word in arguments if re.match(r"--\w", word)}
        given = {flag for flag in given if not flag.startswith("--config.")}
        assert given <= flags_of(command), f"{named(page)}: maeref {command} {', '.join(given - flags_of(command))}"


@every_page
def test_configs_and_settings_exist_and_take_what_is_typed(page):
    for command, arguments in typed(page):
        own, overrides = [], []
        words = iter(arguments)
        for word in words:
            if word.startswith("--config."):
                overrides.append(word if "=" in word else f"{word}={next(words)}")
            else:
                own.append(word)
        spec = next((b for a, b in itertools.pairwise(own) if a == "--config"), None)
        spec = spec or ("refine" if command == "refine" else None)
        if spec and not spec.startswith(("mine.py", "path/", "NAME")):
            overrides = [one for one in overrides if "…" not in one]
            if command == "train":
                flags, _ = command_line.parse(train.flags(), own if "--workdir" in own else [*own, "--workdir", "runs"])
                overrides = [*train.flag_overrides(flags, command_line.load_config(spec)), *overrides]
            command_line.load_config(spec, overrides)
    for key in re.findall(r"--config\.([a-z_]+(?:\.[a-z_]+)*)", text_of(page)):
        assert key in keys(), f"{named(page)}: --config.{key}"
    for span in spans(page):
        name, _, mode = span.partition(":")
        if re.fullmatch(r"\w+:\w+", span) and (command_line.CONFIGS / f"{name}.py").is_file():
            command_line.load_config(f"{name}:{mode}")


@every_page
def test_commands_can_be_pasted_into_any_shell(page):
    for line in blocks(page):
        if not line.startswith("maeref ") or page.name == "README.md":
            continue
        bare = re.sub(r'"[^"]*"', "", line).partition(" #")[0]
        assert not re.search(r"[\[\]{}(),*'\\]", bare), f"{named(page)}: put double quotes around it: {line}"


def test_every_page_is_in_the_index():
    listed = LINK.findall(text_of(ROOT / "docs" / "README.md"))
    assert {page.name for page in PAGES if page.parent.name == "docs"} - {"README.md"} <= {*listed}


def test_the_readme_is_short():
    assert len(text_of(ROOT / "README.md").splitlines()) <= 110


@every_page
def test_files_of_the_project_that_a_page_names_exist(page):
    for span in spans(page):
        if re.fullmatch(r"[\w/]+/\w+\.(py|md|ijm)", span) and not span.startswith(("path/", "docs/NAME")):
            assert any((place / span).exists() for place in (ROOT, ROOT / "maeref_jax")), f"{named(page)}: {span}"


def test_pages_that_the_code_names_exist():
    for folder in ("maeref_jax", "configs", "benchmarks", "tests", "notebooks"):
        for path in (path for ending in ("py", "md", "ipynb") for path in (ROOT / folder).rglob(f"*.{ending}")):
            for page in re.findall(r"docs/\w+\.md", text_of(path)):
                assert (ROOT / page).is_file(), f"{named(path)}: {page}"
