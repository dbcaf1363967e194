"""Compile the launchers' machine code (launcher/stub/*.c) and the program in front of one-file exports (launcher/run/*.zig)
when the package is built.

Everything else about the package is in pyproject.toml. The compiler is the one that the ``ziglang`` wheel brings, in the
version that pyproject.toml pins, and it cross-compiles: the same bytes come out on every machine.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
from typing import ClassVar

from setuptools import Command, setup
from setuptools.command.build import build

SOURCES = "launcher/stub"
RUN = "launcher/run"
FOLDER = "launcher/stubs"
# The kinds of machine code: the source of each, and whether it sets variables that the environment lacks.
KINDS = {"graft": ("graft.c", 0), "defaults": ("graft.c", 1), "script": ("script.c", 1), "apart": ("apart.c", 0)}
# The machine's name, as in the names of the compiled files: the compiler's target, and what else it has to know.
MACHINES = {
    "x86_64": ("x86_64-freestanding-none", "-mgeneral-regs-only"),
    # The smallest model: addresses are told from the instruction alone, and not from its page.
    "aarch64": ("aarch64-freestanding-none", "-mgeneral-regs-only", "-mcmodel=tiny", "-mno-outline-atomics"),
}
# Not for the newest CPUs of a kind, but for all. With its own checks: what they cost is little beside decompression.
RUN_FLAGS = ("-OReleaseSafe", "-fstrip", "-fno-unwind-tables", "-mcpu=baseline")
FLAGS = (
    "-std=c11", "-Oz", "-g0", "-Wall", "-Wextra", "-Wno-parentheses", "-Werror", "-fPIC", "-ffreestanding", "-fno-builtin",
    "-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-fno-sanitize=all", "-fno-strict-aliasing",
    "-fomit-frame-pointer", "-nostdlib", "-static", "-no-pie",
)  # fmt: skip


def compile_stub(kind: str, machine: str) -> bytes:
    """The machine code of one kind of launcher: position-independent, the configuration first."""
    target, *flags = MACHINES[machine]
    name, defaults = KINDS[kind]
    with tempfile.TemporaryDirectory(prefix="builder-stub-") as folder:
        output = os.path.join(folder, "stub.elf")
        # A cache of its own: another user's cache, or a damaged one, has no say in what is built.
        environment = dict(os.environ, ZIG_GLOBAL_CACHE_DIR=folder, ZIG_LOCAL_CACHE_DIR=folder)
        options = (
            f"-DDEFAULTS={defaults}",
            f"-DAPART={int(kind == 'apart')}",
            f"-Wl,-T,{SOURCES}/stub.ld",
            "-o",
            output,
            f"{SOURCES}/{name}",
        )
        command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *flags, *FLAGS, *options]
        subprocess.run(command, check=True, env=environment, stdin=subprocess.DEVNULL)
        with open(output, "rb") as file:
            return only_section(file.read())


def compile_run(machine: str) -> bytes:
    """The program that one-file exports begin with: static, at a fixed address."""
    with tempfile.TemporaryDirectory(prefix="builder-run-") as folder:
        output = os.path.join(folder, "run")
        target = ("-target", f"{machine}-linux-none", "--cache-dir", folder, "--global-cache-dir", folder)
        command = [sys.executable, "-m", "ziglang", "build-exe", *RUN_FLAGS, *target, f"-femit-bin={output}", f"{RUN}/main.zig"]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        with open(output, "rb") as file:
            return file.read()


def only_section(elf: bytes) -> bytes:
    """The bytes of the only section that takes memory. Anything else would be missing from the launcher."""
    start, size, count = struct.unpack_from("<40xQ10xHH", elf)
    found = []
    for at in range(start, start + size * count, size):
        flags, address, offset, length = struct.unpack_from("<8xQQQQ", elf, at)
        if flags & 2:  # SHF_ALLOC
            found.append((address, elf[offset : offset + length]))
    if len(found) != 1 or found[0][0] != 0:
        sys.exit("error: the stub has sections beside its code")
    return found[0][1]


class BuildStubs(Command):
    """Compile launcher/stub and launcher/run into launcher/stubs, in the build folder or, if editable, in the source tree."""

    description = "compile the launchers' machine code"
    user_options: ClassVar[list[tuple[str, str, str]]] = [("build-lib=", "d", "where the package is built")]
    build_lib: str | None
    editable_mode: bool

    def initialize_options(self) -> None:
        """Options as they are before any is given."""
        self.build_lib = None
        self.editable_mode = False

    def finalize_options(self) -> None:
        """Take the build folder from the command that copies the modules."""
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self) -> None:
        """Compile everything."""
        for path in self.get_outputs():
            kind, machine = os.path.basename(path).removesuffix(".bin").split("-")
            self.mkpath(os.path.dirname(path))
            data = compile_run(machine) if kind == "run" else compile_stub(kind, machine)
            with open(path, "wb") as file:
                file.write(data)

    def get_outputs(self) -> list[str]:
        """The files that run() writes (setuptools' SubCommand protocol, as are the next two)."""
        assert self.build_lib is not None
        top = "" if self.editable_mode else self.build_lib
        return [os.path.join(top, FOLDER, f"{kind}-{machine}.bin") for machine in MACHINES for kind in (*KINDS, "run")]

    def get_output_mapping(self) -> dict[str, str]:
        """Output files that are copies of source files: none."""
        return {}

    def get_source_files(self) -> list[str]:
        """What a source distribution has to hold."""
        return [f"{folder}/{name}" for folder in (SOURCES, RUN) for name in sorted(os.listdir(folder))]


class Build(build):
    """The usual build, and the stubs."""

    sub_commands: ClassVar = [*build.sub_commands, ("build_stubs", None)]


if __name__ == "__main__":
    setup(cmdclass={"build": Build, "build_stubs": BuildStubs})
