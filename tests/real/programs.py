"""The tests' own programs, compiled once, as launchers. `native.py` has the same ones as the linker left them."""

from pathlib import Path

from builder import Local, Recipe

from . import world

SOURCES = sorted(path.name for path in Path(__file__).with_name("programs").iterdir())

# Libraries: the path in the artifact, and what it is made of.
LIBRARIES = {
    "lib/libspeaker.so.1": "-DNAME='\"by soname\"' speaker.c",
    "lib/plugins/libinner.so": "-DNAME='\"the one beside it\"' inner.c",
    "lib/plugins/origin.so": "-DNAME='\"by path\"' -DNEEDS speaker.c -Llib/plugins -linner -Wl,-rpath,'$ORIGIN'",
    "lib/other/libhidden.so": "-DNAME='\"one in its run path\"' inner.c",
    "lib/runpath.so": "-DNAME='\"opened\"' -DOPENS='\"libhidden.so\"' speaker.c -Wl,--enable-new-dtags,-rpath,'$ORIGIN/other'",
    "lib/libthrower.so": "thrower.cc",
    "lib/tls-gd.so": "-DMODEL='\"global-dynamic\"' local.c",
    "lib/tls-desc.so": "-mtls-dialect=gnu2 -DMODEL='\"global-dynamic\"' local.c",
    "lib/libtls-ie.so": "-DMODEL='\"initial-exec\"' local.c",
    "lib/audit.so": "audit.c",
}
_KINDS = {
    "pie": "",
    "fixed": "-no-pie",
    "stripped": "-s",
    "optimised": "-O3 -flto -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fcf-protection=full",
    "norelro": "-Wl,-z,norelro",
    "now": "-Wl,-z,relro,-z,now",
    "lazy": "-Wl,-z,lazy",
    "relr": "-Wl,-z,pack-relative-relocs",
    "sysv-hash": "-Wl,--hash-style=sysv",
    "gnu-hash": "-Wl,--hash-style=gnu",
    "large-pages": "-Wl,-z,max-page-size=0x200000",
    "large-pages-fixed": "-no-pie -Wl,-z,max-page-size=0x200000",
    "one-segment": "-Wl,-z,noseparate-code",
    "high": "-no-pie -Wl,-Ttext-segment=0x60000000",
    "high-pie": "-Wl,-Ttext-segment=0x600000000000",
    "low": "-no-pie -Wl,-Ttext-segment=0x10000",
    "spare": "-Wl,--spare-dynamic-tags=0",
    "relocations": "-Wl,--emit-relocs",
    "bare": "-Wl,--build-id=none,--no-eh-frame-hdr -s",
    "compressed": "-g -gz=zlib",
    "text-relocations": "-fno-pie -mcmodel=large -pie -Wl,-z,notext -DNO_IFUNC",
    "executable-stack": "-Wl,-z,execstack",
    "gold": "-fuse-ld=gold",
    "gold-fixed": "-fuse-ld=gold -no-pie",
    "lld": "-fuse-ld=lld",
    "lld-fixed": "-fuse-ld=lld -no-pie",
    "lld-separate": "-fuse-ld=lld -Wl,-z,separate-loadable-segments",
    "lld-no-stack": "-fuse-ld=lld -Wl,-z,nognustack",
    "mold": "-fuse-ld=mold",
    "mold-fixed": "-fuse-ld=mold -no-pie",
}
# The same source in every way of linking.
KINDS = {f"kind-{name}": f"{flags} kind.c -lm" for name, flags in _KINDS.items()}
MUSL = {f"musl-{name}": f"{flags} -DNO_IFUNC kind.c" for name, flags in {"pie": "-fPIE -pie", "fixed": "-no-pie"}.items()}
STATIC = {
    "plain": "-static plain.c",
    "with": "-static with.c",
    "static": "-static kind.c -lm",
    "static-pie": "-static-pie kind.c -lm",
}
PROGRAMS = {
    "facts": "-rdynamic facts.c",
    "facts-fixed": "-rdynamic -no-pie facts.c",
    "reexec": "reexec.c",
    "trace": "-O0 -rdynamic trace.c",
    "trace-fixed": "-O0 -rdynamic -no-pie trace.c",
    "throw": "throw.cc -pthread",
    "open": "open.c",
    "threads": "threads.c -pthread lib/libtls-ie.so -Wl,-rpath,'$ORIGIN/../lib'",
    "heap": "heap.c",
    "heap-fixed": "-no-pie heap.c",
    "deep": "-O0 deep.c",
    "nested": "nested.c",
    "clock": "clock.c",
    "busy": "busy.c",
    "busy-fixed": "-no-pie busy.c",
    "busy-stripped": "-s -rdynamic busy.c",
    "crash": "crash.c",
    "memory-error": "memory_error.c -pthread",
    "asan": "-fsanitize=address memory_error.c",
    "ubsan": "-fsanitize=undefined memory_error.c",
    "lsan": "-fsanitize=leak memory_error.c",
    "tsan": "-fsanitize=thread memory_error.c",
    "large-bss": "large_bss.c",
    "large-bss-fixed": "-no-pie -mcmodel=medium large_bss.c",
    "parent": "parent.c",
    "payload": "payload.c",
    "payload-fixed": "-no-pie payload.c",
}
REAL = ("rg", "fdfind", "fzf", "gocryptfs", "age", "age-keygen", "busybox")
COPIED = ("bwrap", "strace", "gdb", "patchelf", *REAL)


def _script() -> str:
    lines = ['top="$OUT$PREFIX"; mkdir -p "$top/bin" "$top/lib/plugins" "$top/lib/other"; ln -s "$top/lib" lib']
    for path, words in LIBRARIES.items():
        soname = f"-Wl,-soname,{path.rpartition('/')[2]}"
        lines.append(f'{_compiler(words)} -shared -fPIC {soname} -o "$top/{path}" {words}')
    for name, words in (PROGRAMS | KINDS | STATIC).items():
        lines.append(f'{_compiler(words)} -o "$top/bin/{name}" {words}')
    for name, words in MUSL.items():
        lines.append(f'musl-gcc -g -O1 -o "$top/bin/{name}" {words}')
    for name in COPIED:
        lines.append(f'cp "$(readlink -f /usr/bin/{name})" "$top/bin/{name}"')
    return "\n".join(lines) + _MORE


def _compiler(words: str) -> str:
    return ("g++" if ".cc" in words else "gcc") + " -g -O1 -w"


_MORE = r"""
cd "$top/bin"
ln -s facts link; ln -s link link-to-link
# As distributions split their debugging information off.
cp trace trace-linked
objcopy --only-keep-debug trace-linked trace-linked.debug
strip --strip-debug trace-linked
objcopy --add-gnu-debuglink=trace-linked.debug trace-linked
# Without sections and what only they name.
end=$(readelf -lW kind-pie | awk '$1 == "LOAD" { end = strtonum($2) + strtonum($5) } END { print end }')
head -c "$end" kind-pie > kind-sectionless
chmod +x kind-sectionless
dd if=/dev/zero of=kind-sectionless bs=1 seek=40 count=8 conv=notrunc status=none
dd if=/dev/zero of=kind-sectionless bs=1 seek=60 count=4 conv=notrunc status=none
for name in payload payload-fixed; do printf 'data that is behind the program' >> $name; done
# Starts without an interpreter, although it is a shared object.
echo 'void _start(void) { __asm__("mov $60, %eax; mov $17, %edi; syscall"); }' > /tmp/alone.c
gcc -nostdlib -fPIE -pie -Wl,--no-dynamic-linker -o alone /tmp/alone.c
"""

recipe = Recipe(
    name="programs",
    version="1",
    about="programs that look at how they were started",
    sources=tuple(Local(f"programs/{name}") for name in SOURCES),
    inputs=(world.recipe,),
    script=_script(),
)
