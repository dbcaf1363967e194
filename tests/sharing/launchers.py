"""The same servers as launchers. `bin/ssh` takes its configuration from $SSH_CONFIG: OpenSSH itself knows one place only."""

from builder import Recipe

from . import daemons

recipe = Recipe(
    name="servers",
    version="1",
    about="nginx, sshd and ssh for the tests of remotes",
    inputs=(daemons.recipe,),
    script="""
        mkdir -p "$OUT$PREFIX/bin" "$OUT$PREFIX/libexec" "$OUT$PREFIX/modules"
        cp /usr/bin/bwrap /usr/bin/ssh-keygen /usr/sbin/nginx /usr/sbin/sshd "$OUT$PREFIX/bin"
        cp /usr/bin/ssh "$OUT$PREFIX/libexec"
        cp /usr/lib/nginx/modules/ngx_http_dav_ext_module.so "$OUT$PREFIX/modules"
        echo '#!/bin/sh' >"$OUT$PREFIX/bin/ssh"
        echo 'exec "${0%/*}/../libexec/ssh" -F "$SSH_CONFIG" "$@"' >>"$OUT$PREFIX/bin/ssh"
        chmod 755 "$OUT$PREFIX/bin/ssh"
    """,
)
