"""One root for the tests of real programs: it compiles them, they run on it natively, and it has what looks at them."""

from builder import System
from recipes import toolchain

recipe = System(
    name="world",
    version="12.15",
    about="the toolchain, other linkers, a second C library, debuggers and tracers",
    packages=(
        *toolchain.essential,
        *("g++", "gcc", "libc6-dev", "lld", "mold", "musl-dev", "musl-tools"),
        *("bubblewrap", "busybox", "gdb-minimal", "linux-perf", "patchelf", "strace", "valgrind"),
        # Rust: ripgrep, fd. Go with cgo: fzf and gocryptfs (fixed), age (PIE); age-keygen is a Go PIE that needs no library.
        *("age", "fd-find", "fzf", "gocryptfs", "ripgrep"),
    ),
    exclude=(*toolchain.unused, "libc6-dbg"),
    links=toolchain.links,
)
