# shellcheck shell=bash
# The tests of ./meter demo and ./meter psql. Sourced by ./meter.
#
# They run as we do and, where we are root, as the tests' user too, who has a copy of the checkout
# with what was built in it.

DEMO_LOG= # what ./meter said

check_demo() {
    step "demo"
    if [ "$METER_BUILD" != "$METER_ROOT/build" ]; then
        say "skip demo: nothing that is built stays in this checkout, and each would build anew"
        count 0 0 1
        return 0
    fi
    DEMO_LOG=$METER_TMP/log/demo-said
    check_one "./meter demo shows what demo/demo.out says" shows_the_demo us
    check_one "./meter psql has an empty database and the demo's" has_both_databases us
    check_one "./meter psql: a signal ends it, and nothing is left" ends_by_signal
    check_one "./meter psql at a terminal: an interrupt cancels a statement" hears_an_interrupt
    is_root || return 0
    copy_checkout
    check_one "./meter demo shows the same to a user who is not root" shows_the_demo tester
    check_one "./meter psql does the same for a user who is not root" has_both_databases tester
}

# A checkout for the tests' user. The times stay, so that make finds nothing to do.
copy_checkout() {
    mkdir "$METER_TMP/run/checkout"
    tar -C "$METER_ROOT" --exclude=./.git --exclude=./build/cmake --exclude=./build/fuzz \
        --exclude=./build/results -cf - . | tar -C "$METER_TMP/run/checkout" -xf -
    chown -R "$METER_USER" "$METER_TMP/run/checkout"
}

# Runs ./meter as one of the two, in an empty temporary directory, its output going to $DEMO_LOG.
# Fails where it fails, or leaves a file or a process behind.
run_meter() {
    local who=$1 status=0 directory
    shift
    directory=$(demo_directory "$who")
    if [ "$who" = us ]; then
        TMPDIR=$directory "$METER_ROOT/meter" "$@" >"$DEMO_LOG" 2>&1 || status=$?
    else
        as_tester env TMPDIR="$directory" PG_CONFIG="$PG_CONFIG" ${CXX:+CXX="$CXX"} \
            ${CXXFLAGS:+CXXFLAGS="$CXXFLAGS"} "$METER_TMP/run/checkout/meter" "$@" >"$DEMO_LOG" 2>&1 || status=$?
    fi
    leaves_nothing "$directory" || status=1
    [ "$status" -eq 0 ] || cat "$DEMO_LOG"
    return "$status"
}

demo_directory() {
    if [ "$1" = us ]; then
        mkdir -p "$METER_TMP/demo"
        echo "$METER_TMP/demo"
    else
        as_tester mkdir -p "$METER_TMP/run/demo"
        echo "$METER_TMP/run/demo"
    fi
}

leaves_nothing() {
    local link
    for link in /proc/[0-9]*/cwd; do
        case $(readlink "$link" 2>/dev/null || true) in
            "$1"/*)
                echo "a process is left: $link"
                return 1
                ;;
        esac
    done
    [ -z "$(ls -A "$1")" ] || {
        echo "files are left:" && find "$1" | head
        return 1
    }
}

shows_the_demo() {
    run_meter "$1" demo </dev/null || return
    # Where the machine is busy, how long it has been at it is said as well.
    sed -n '/^== the demo:/,/^== stopping/{/^==/d;/^   \.\.\. the demo/d;p}' "$DEMO_LOG" | diff "$METER_ROOT/demo/demo.out" -
}

has_both_databases() {
    run_meter "$1" psql <<'SQL' || return
CREATE EXTENSION meter;
SELECT 'meters: ' || count(*) FROM meter.list_meters();
\c demo
SELECT 'alice: ' || value FROM meter.usage('llm.tokens', '2025-03-01', '2025-04-01', 'alice');
SQL
    if ! grep -q 'meters: 0' "$DEMO_LOG" || ! grep -q 'alice: 524200' "$DEMO_LOG"; then
        cat "$DEMO_LOG"
        return 1
    fi
}

# Waits for a line of the log.
wait_for_log() {
    local try
    for ((try = 0; try < 1200; ++try)); do
        ! grep -q -- "$1" "$DEMO_LOG" 2>/dev/null || return 0
        sleep 0.1
    done
    echo "it never said: $1"
    cat "$DEMO_LOG"
    return 1
}

ends_by_signal() {
    local directory pid status=0
    directory=$(demo_directory us)
    rm -f "$METER_TMP/keys" "$DEMO_LOG"
    mkfifo "$METER_TMP/keys"
    TMPDIR=$directory "$METER_ROOT/meter" psql <"$METER_TMP/keys" >"$DEMO_LOG" 2>&1 &
    pid=$!
    exec 4>"$METER_TMP/keys"
    echo "SELECT 'it ' || 'runs';" >&4
    wait_for_log '^ it runs' || status=1
    kill -TERM "$pid"
    wait "$pid"
    [ $? -eq 143 ] || { echo "it did not end by the signal" && status=1; }
    # It has not come to the end of what it reads.
    leaves_nothing "$directory" || status=1
    exec 4>&-
    return "$status"
}

# script has its command run by a shell, which must not be there to hear the interrupt too: dash ends by it.
hears_an_interrupt() {
    local directory pid status=0
    directory=$(demo_directory us)
    rm -f "$METER_TMP/keys" "$DEMO_LOG"
    mkfifo "$METER_TMP/keys"
    TMPDIR=$directory env --default-signal=INT script -qefc "exec '$METER_ROOT/meter' psql" "$DEMO_LOG" <"$METER_TMP/keys" >/dev/null 2>&1 &
    pid=$!
    exec 4>"$METER_TMP/keys"
    wait_for_log 'postgres=#' || status=1
    echo "SELECT pg_sleep(600);" >&4
    sleep 2
    printf '\003' >&4
    wait_for_log 'canceling statement due to user request' || status=1
    printf "SELECT 'still ' || 'here';\n\\\\q\n" >&4
    exec 4>&-
    wait "$pid" || { echo "it failed" && cat "$DEMO_LOG" && status=1; }
    grep -q 'still here' "$DEMO_LOG" || { cat "$DEMO_LOG" && status=1; }
    leaves_nothing "$directory" && return "$status"
}
