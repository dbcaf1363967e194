"""A few hundred packages of Debian, chosen for breadth: languages, compilers, and programs of every size and age."""

from builder import System

recipe = System(
    name="everything",
    version="12.15",
    about="every program of this becomes a launcher in a test",
    packages=(
        # What every system has.
        *("bash", "bsdextrautils", "bsdutils", "busybox", "coreutils", "cpio", "dash", "diffutils", "e2fsprogs", "fdisk"),
        *("file", "findutils", "gawk", "grep", "gzip", "bzip2", "xz-utils", "zstd", "less", "libc-bin", "lsof", "mawk"),
        *("ncurses-bin", "patch", "procps", "psmisc", "sed", "tar", "time", "tree", "unzip", "zip", "util-linux", "kmod"),
        *("acl", "attr", "bc", "dc", "ed", "iproute2", "iputils-ping", "iputils-tracepath", "net-tools", "openssl", "gnupg"),
        *("libcap2-bin", "dosfstools", "squashfs-tools", "btrfs-progs", "xfsprogs", "mtools", "lzip", "lz4", "pigz", "parted"),
        # Compilers, and tools that look into programs.
        *("binutils", "gcc", "make", "cmake", "ninja-build", "autoconf", "bison", "flex", "m4", "nasm"),
        *("gdb-minimal", "strace", "ltrace", "elfutils", "patchelf", "ccache", "gettext", "pkgconf", "tcc"),
        *("universal-ctags", "indent", "cflow"),
        # Languages.
        *("perl", "python3", "ruby", "lua5.4", "luajit", "tcl", "php-cli", "nodejs", "ocaml-base-nox"),
        *("gforth", "chicken-bin"),
        # Rust, Go, Haskell, OCaml.
        *("ripgrep", "fd-find", "bat", "hyperfine", "exa", "fzf", "age", "gh", "yq", "shellcheck"),
        *("hledger", "direnv", "micro", "unison"),
        # The network.
        *("curl", "wget", "openssh-client", "openssh-server", "rsync", "nmap", "tcpdump", "socat", "netcat-openbsd"),
        *("bind9-dnsutils", "whois", "lftp", "ldap-utils", "iperf3", "mtr-tiny", "wireguard-tools", "aria2", "w3m"),
        *("mutt", "postgresql-client", "mariadb-client", "redis-tools", "nginx-light", "apache2-bin", "tor", "stunnel4"),
        # Texts, data, pictures and sound.
        *("vim", "nano", "tmux", "screen", "git", "mercurial", "subversion", "git-lfs", "jq", "sqlite3"),
        *("imagemagick", "graphicsmagick", "ghostscript", "poppler-utils", "graphviz", "flac", "lame"),
        *("vorbis-tools", "opus-tools", "webp", "optipng", "gifsicle", "librsvg2-bin", "libtiff-tools", "exiv2"),
        *("libxml2-utils", "xsltproc", "groff", "tidy", "aspell", "hunspell", "gnuplot-nox", "units", "qpdf", "par2", "p7zip"),
        *("xorriso", "cdparanoia", "mc", "htop", "ncdu", "stress-ng", "sysstat", "hdparm", "smartmontools", "pciutils"),
    ),
    exclude=("adduser", "debconf", "dpkg", "login", "mount", "passwd", "sensible-utils", "sysvinit-utils", "tzdata"),
)
