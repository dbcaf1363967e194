"""The Crystal compiler with its interpreter, from source: `crystal i` runs where no compiler is installed."""

from builder import Recipe, Source, System
from recipes import toolchain

version = "1.14.0"

# The first compiler is Debian's, 1.6. The libraries are those that Crystal's standard library binds.
system = System(
    name="crystal-toolchain",
    version="12.15",
    about="Debian 12's Crystal 1.6 and LLVM 15, with the libraries that Crystal programs use",
    packages=(
        *toolchain.essential,
        *("crystal", "g++", "gcc", "libc6-dev", "llvm-15-dev", "make", "pkg-config"),
        *("libevent-dev", "libffi-dev", "libgc-dev", "libgmp-dev", "libpcre2-dev"),
        *("libssl-dev", "libxml2-dev", "libyaml-dev", "zlib1g-dev"),
    ),
    lock="crystal.lock",
    exclude=toolchain.unused,
    links=toolchain.links,
)

# What interpreted programs load by the names that a linker would look for: `-lssl` is lib/crystal/libssl.so.
libraries = {
    "libcrypto": "libcrypto.so.3",
    "libdl": "libdl.so.2",
    "libevent": "libevent-2.1.so.7",
    "libevent_pthreads": "libevent_pthreads-2.1.so.7",
    "libgmp": "libgmp.so.10",
    "libm": "libm.so.6",
    "libpcre2-8": "libpcre2-8.so.0",
    "libpthread": "libpthread.so.0",
    "librt": "librt.so.1",
    "libssl": "libssl.so.3",
    "libxml2": "libxml2.so.2",
    "libyaml": "libyaml-0.so.2",
    "libz": "libz.so.1",
}

# Interpreted programs load the artifact's own libraries: what pkg-config says of the machine is not asked for them.
own_libraries = r"""
openssl="$(pkg-config --modversion libssl)"
version="{% from_libressl = false %}{% ssl_version = \"$openssl\" %}"
for name in ssl crypto; do
    sed -i -e "/ssl_version ||=/{n;s/{% else %}/{% elsif flag?(:interpreted) %}$version\n{% else %}/}" \
        -e '/Link("user32")/{n;s/{% else %}/{% elsif flag?(:interpreted) %}@[Link(ldflags: "-lssl -lcrypto")]\n{% else %}/}' \
        src/openssl/lib_$name.cr
    test "$(grep -c 'flag?(:interpreted)' src/openssl/lib_$name.cr)" = 2
done
sed -i 's/flag?(:use_pcre2) ||/flag?(:use_pcre2) || flag?(:interpreted) ||/' src/regex/engine.cr
grep -q 'flag?(:interpreted)' src/regex/engine.cr
sed -i '/return unless pkg_config_path/i return if has_flag?("interpreted")' src/compiler/crystal/codegen/link.cr
grep -q 'has_flag?("interpreted")' src/compiler/crystal/codegen/link.cr
"""

# The macros of 1.6 cannot ask a lib whether it has a function; Debian's libgc has both.
#
# release=1 is LLVM's -O3 over one module, 16 minutes of one core, most of them spent on the interpreter's own loop. The
# same loop compiled module by module (-O2, 7 minutes with both cores) runs interpreted code 36 times slower, for nothing is
# inlined across modules; -O1 and -O2 over one module save a quarter of the time, and run it 1.2 times slower.
build = """
sed -i.orig 's/LibGC.has_method?(:[a-z_]*)/true/' src/gc/boehm.cr
make crystal interpreter=1 release=1
mv src/gc/boehm.cr.orig src/gc/boehm.cr
"""

install = """
make install DESTDIR="$OUT"
mkdir -p "$OUT$PREFIX/lib/crystal"
""" + "".join(
    f'ln -s /usr/lib/x86_64-linux-gnu/{soname} "$OUT$PREFIX/lib/crystal/{name}.so"\n' for name, soname in libraries.items()
)

recipe = Recipe(
    name="crystal",
    version=version,
    about="The Crystal compiler and interpreter (Apache-2.0), https://crystal-lang.org",
    sources=(
        Source(
            f"mirror://debian/pool/main/c/crystal/crystal_{version}+dfsg.orig.tar.xz",
            sha256="4cf851b2ea0a6ba4049a4c82960cec132a113df3e457a1cca24a98afa07faacd",
        ),
    ),
    inputs=(system,),
    script=own_libraries + build + install,
    # What `String#encode` converts with.
    data=("iconv",),
    check="""
        crystal --version | grep -q "^Crystal 1.14.0"
        cat > all.cr <<'END'
        require "json"
        require "yaml"
        require "big"
        require "xml"
        require "openssl"
        require "http/client"
        require "compress/gzip"
        puts JSON.parse(%({"a": [1, 2]}))["a"][1]
        puts YAML.parse("b: 3")["b"]
        puts BigInt.new(2) ** 100
        puts XML.parse("<c>text</c>").first_element_child.try &.content
        puts OpenSSL::Digest.new("SHA256").update("d").final.hexstring[0, 8]
        io = IO::Memory.new
        Compress::Gzip::Writer.open(io, &.print("gzip"))
        puts Compress::Gzip::Reader.open(io.rewind, &.gets_to_end)
        puts HTTP::Headers{"Host" => "e"}["host"], "f-1" =~ /\\d/
        END
        crystal i all.cr > out.txt
        printf '%s\\n' 2 3 1267650600228229401496703205376 text 18ac3e73 gzip e 2 > expected.txt
        diff expected.txt out.txt
        printf 'puts 1\\n\\nraise "oh no"\\n' > fail.cr
        ! crystal i fail.cr > /dev/null 2> error.txt
        grep -q "oh no" error.txt
        grep -q "fail.cr:3" error.txt
        printf 'puts   1\\n' > format.cr
        crystal tool format format.cr
        test "$(cat format.cr)" = "puts 1"
    """,
)
