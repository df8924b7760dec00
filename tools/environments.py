"""Makes the virtual environments that the other tools use, and the wheels that go into them.

An environment is made again when the Python, the packages or their versions change; a file
inside it remembers what it was made for.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEV = ROOT / ".venv"
RELEASE = ROOT / ".venv-release"


class SetupError(RuntimeError):
    """The machine lacks something; the text says what and what to do."""


def requirements(group: str) -> list[str]:
    """Returns the requirements of a dependency group of `pyproject.toml`, includes resolved."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    found: list[str] = []
    for entry in groups[group]:
        if isinstance(entry, str):
            found.append(entry)
        else:
            found += requirements(entry["include-group"])
    return found


def python_in(env: Path) -> Path:
    """Returns the interpreter of a virtual environment."""
    return env / "bin" / "python"


def ensure(env: Path, group: str, base: str = sys.executable) -> Path:
    """Makes `env` from the interpreter `base` with the packages of `group`; returns its Python."""
    wanted = requirements(group)
    version = subprocess.check_output([base, "-c", "import sys; print(sys.version)"], text=True)
    key = hashlib.sha256("\n".join([base, version, *wanted]).encode()).hexdigest()
    stamp = env / "made-for"
    python = python_in(env)
    if stamp.is_file() and stamp.read_text() == key and python.exists():
        return python
    print(f"setting up {env.name} ({version.split()[0]}: {', '.join(wanted)})", flush=True)
    shutil.rmtree(env, ignore_errors=True)
    if _has(base, "ensurepip"):
        _run([base, "-m", "venv", str(env)])
        pip = [str(python), "-m", "pip"]
    else:
        _run([base, "-m", "venv", "--without-pip", str(env)])
        pip = [base, "-m", "pip", "--python", str(python)]
    _run([*pip, "install", "--quiet", "--disable-pip-version-check", *wanted])
    stamp.write_text(key)
    return python


def build_wheel(profile: str, features: str, out: Path) -> Path:
    """Builds the wheel with maturin out of `.venv` (made by the caller); returns its path."""
    shutil.rmtree(out, ignore_errors=True)
    chosen = ["--release"] if profile == "release" else ["--profile", profile]
    maturin = DEV / "bin" / "maturin"
    # The interpreter is named, so that maturin and a PATH full of others cannot disagree.
    command = [str(maturin), "build", *chosen, "--features", features, "-o", str(out)]
    _run([*command, "-i", str(python_in(DEV))])
    wheels = sorted(out.glob("ringspan-*.whl"))
    if len(wheels) != 1:
        raise SetupError(f"maturin left {len(wheels)} wheels in {out}, expected one")
    return wheels[0]


def install_wheel(env: Path, wheel: Path) -> None:
    """Installs the wheel into the environment, in place of any other build of it."""
    python = python_in(env)
    pip = [str(python), "-m", "pip"]
    if not _has(str(python), "pip"):
        pip = [sys.executable, "-m", "pip", "--python", str(python)]
    options = ["--quiet", "--disable-pip-version-check", "--force-reinstall", "--no-deps"]
    _run([*pip, "install", *options, str(wheel)])


def dev_env() -> Path:
    """Makes `.venv` with the tools and the wheel that the tests use; returns its Python."""
    python = ensure(DEV, "dev")
    out = ROOT / "target" / "wheels" / "dev"
    install_wheel(DEV, build_wheel("dev-wheel", "python,failpoints", out))
    return python


def release_env() -> Path:
    """Makes `.venv-release` with the LTO wheel, for the demo and the benchmarks."""
    ensure(DEV, "dev")
    python = ensure(RELEASE, "bench")
    install_wheel(RELEASE, build_wheel("release", "python", ROOT / "target" / "wheels" / "release"))
    return python


def other_pythons() -> dict[str, str | None]:
    """Finds the CPythons besides our own that the wheel must work on: version -> path or None."""
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    found: dict[str, str | None] = {}
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for minor in range(11, 16):
        name = f"3.{minor}"
        if name == ours:
            continue
        candidates = [shutil.which(f"python{name}")]
        candidates += [str(p) for p in sorted(home.glob(f"versions/{name}*/bin/python3"))]
        found[name] = next((c for c in candidates if c and _is(c, name)), None)
    return found


def up_to(minor: int) -> str | None:
    """Finds a CPython that is no newer than 3.`minor`: our own, or the newest other one."""
    if sys.version_info[:2] <= (3, minor):
        return sys.executable
    others = other_pythons()
    found = [others.get(f"3.{number}") for number in range(minor, 10, -1)]
    return next((path for path in found if path), None)


def _is(python: str, version: str) -> bool:
    code = (
        "import sys, sysconfig; print('%d.%d' % sys.version_info[:2], sys.implementation.name,"
        " sysconfig.get_config_var('Py_GIL_DISABLED') or 0)"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.split() == [version, "cpython", "0"]


def _has(python: str, module: str) -> bool:
    if python == sys.executable:
        return importlib.util.find_spec(module) is not None
    code = f"import importlib.util as u, sys; sys.exit(u.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", code], check=False).returncode == 0


def _run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode != 0:
        raise SetupError(f"`{' '.join(command)}` failed with {done.returncode}")


def main() -> int:
    """Makes `.venv` for a developer: the tools and, when asked with --wheel, the dev wheel."""
    try:
        if "--wheel" in sys.argv[1:]:
            dev_env()
        else:
            ensure(DEV, "dev")
    except SetupError as fault:
        print(fault, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
