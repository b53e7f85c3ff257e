# shellcheck shell=bash
# A temporary directory with a private copy of PostgreSQL and the extension in it, and the user to
# run them as. Sourced by ./meter.
#
#   $METER_TMP/pg      PostgreSQL's directories under their own names, and the extension. A server
#                      finds its files relative to its executable, so it stays in here.
#   $METER_TMP/source  a copy of the checkout, readable by the user that the tests run as
#   $METER_TMP/run     the only place that user writes to

METER_USER= # the unprivileged user that runs servers and tests; empty: ourselves

make_temporary_directory() {
    METER_TMP=$(mktemp -d "${TMPDIR:-/tmp}/meter.XXXXXX")
    chmod 755 "$METER_TMP"
    mkdir "$METER_TMP/run" "$METER_TMP/log"
}

# PostgreSQL refuses to run as root: then it is the user postgres or, where there is none, nobody.
choose_user() {
    is_root || return 0
    if id postgres >/dev/null 2>&1; then METER_USER=postgres; else METER_USER=nobody; fi
    chown "$METER_USER" "$METER_TMP/run"
    as_tester test -w "$METER_TMP/run" || die "the user $METER_USER cannot write below $METER_TMP" \
        "Set TMPDIR to a directory that every user can enter."
}

# Runs a command as that user, with nothing of our environment that could lead it elsewhere.
as_tester() {
    (become_tester "$@")
}

# The same in place of this shell.
become_tester() {
    local switch=() environment=(
        HOME="$METER_TMP/run" TMPDIR="$METER_TMP/run" LC_ALL=C TZ=UTC PSQLRC=/dev/null PGSYSCONFDIR="$METER_TMP"
        PATH="${METER_BIN:+$METER_BIN:}/usr/local/bin:/usr/bin:/bin"
    )
    [ -z "${METER_LIBRARY_PATH:-}" ] || environment+=(LD_LIBRARY_PATH="$METER_LIBRARY_PATH")
    [ -z "${PG_TEST_TIMEOUT_DEFAULT:-}" ] || environment+=(PG_TEST_TIMEOUT_DEFAULT="$PG_TEST_TIMEOUT_DEFAULT")
    [ -z "$METER_USER" ] || switch=(setpriv --reuid="$METER_USER"
        --regid="$(id -g "$METER_USER")" --init-groups)
    cd "$METER_TMP/run" && exec "${switch[@]}" env -i "${environment[@]}" "$@"
}

# The directory for what is built: kept in the checkout, so that the next run is quick. In the
# temporary directory where the checkout is not ours to write to.
choose_build_directory() {
    METER_BUILD=$METER_ROOT/build
    if mkdir -p "$METER_BUILD" 2>/dev/null && [ -w "$METER_BUILD" ] &&
        [ -z "$(find "$METER_BUILD" -maxdepth 1 ! -writable -print -quit)" ]; then
        return 0
    fi
    say "cannot write to $METER_BUILD: building from scratch in the temporary directory"
    METER_BUILD=$METER_TMP/build
    mkdir -p "$METER_BUILD"
}

# Brings directory $2 up to date with the checkout's files named by the rest, relative to $1. A file
# that has not changed keeps its time, so that make does not build it again.
mirror() {
    local from=$1 to=$2 file
    shift 2
    while IFS= read -r file; do
        cmp -s "$from/$file" "$to/$file" && continue
        mkdir -p "$(dirname "$to/$file")"
        cp "$from/$file" "$to/$file"
    done < <(cd "$from" && find "$@" -type f ! -name '*.o' ! -name '*.so' ! -name '*.bc')
    # What was deleted in the checkout would still be found by the Makefile's wildcards.
    while IFS= read -r file; do
        [ -e "$from/$file" ] || rm -f "$to/$file"
    done < <(cd "$to" && find "$@" -type f ! -name '*.o' ! -name '*.so' ! -name '*.bc')
}

# Builds the extension and the tests' own module in a copy of the tree.
build_extension() {
    local key copy parts=(Makefile meter.control src test/guard)
    [ ! -d "$METER_ROOT/updates" ] || parts+=(updates)
    key=$({ "$PG_CONFIG" --version --bindir --pgxs --configure; echo "${CXX:-} ${CXXFLAGS:-}"; } | cksum)
    copy=$METER_BUILD/pgxs-${key%% *}
    mkdir -p "$copy/src" "$copy/test/guard" "$copy/updates"
    mirror "$METER_ROOT" "$copy" "${parts[@]}"
    run_job "building for $("$PG_CONFIG" --version)" "$METER_TMP/log/build" build_in "$copy" || {
        tail -n 60 "$METER_TMP/log/build"
        return 1
    }
    METER_COPY=$copy
}

build_in() {
    unset MAKEFLAGS MAKELEVEL
    make -C "$1" -j"$(nproc)" PG_CONFIG="$PG_CONFIG" &&
        make -C "$1/test/guard" -j"$(nproc)" PG_CONFIG="$PG_CONFIG"
}

# Copies directory $1 to the same path below the private tree: as links where the tests' user can
# read the originals.
privatize() {
    local to=$METER_TMP/pg$1
    mkdir -p "$to" || return
    if as_tester test -r "$1" -a -x "$1"; then
        cp -rs "$1/." "$to/"
    else
        cp -r "$1/." "$to/"
    fi
}

# Makes the private PostgreSQL and installs the extension and the tests' module into it.
make_private_tree() {
    local bindir libdir pkglibdir sharedir
    bindir=$("$PG_CONFIG" --bindir)
    libdir=$("$PG_CONFIG" --libdir)
    pkglibdir=$("$PG_CONFIG" --pkglibdir)
    sharedir=$("$PG_CONFIG" --sharedir)
    mkdir -p "$METER_TMP/pg$bindir" || return
    # Executables as real files: a link would lead the server back to where it points.
    cp "$bindir"/* "$METER_TMP/pg$bindir/" || return
    privatize "$pkglibdir" || return
    privatize "$sharedir" || return
    METER_BIN=$METER_TMP/pg$bindir
    METER_PGXS_TEST=$METER_TMP/pg$(dirname "$(dirname "$(dirname "$("$PG_CONFIG" --pgxs)")")")/src/test
    if ! as_tester test -x "$libdir"; then
        METER_LIBRARY_PATH=$METER_TMP/pg$libdir
        mkdir -p "$METER_LIBRARY_PATH"
        cp -P "$libdir"/*.so* "$METER_LIBRARY_PATH/"
    fi
    # An installed meter must not answer for the one that was built.
    rm -f "$METER_TMP/pg$pkglibdir"/meter.so "$METER_TMP/pg$sharedir"/extension/meter--*.sql \
        "$METER_TMP/pg$sharedir"/extension/meter.control
    local directory
    for directory in "$METER_COPY" "$METER_COPY/test/guard"; do
        make -s -C "$directory" install PG_CONFIG="$PG_CONFIG" DESTDIR="$METER_TMP/pg"
    done >"$METER_TMP/log/install" 2>&1 || {
        cat "$METER_TMP/log/install"
        return 1
    }
}

copy_source() {
    mkdir "$METER_TMP/source" || return
    tar -C "$METER_ROOT" --exclude=./build --exclude=./.git -cf - . |
        tar -C "$METER_TMP/source" --no-same-owner -xf - || return
    chmod -R a+rX "$METER_TMP/source"
}

# Everything before the first test that needs PostgreSQL.
prepare_sandbox() {
    build_extension && make_private_tree && copy_source
}
