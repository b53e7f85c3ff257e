# shellcheck shell=bash
# A throw-away server: demo/demo.sql runs on it, or it has a prompt. Sourced by ./meter.

METER_SOCKET= # the server's directory
METER_CLIENT=() # psql, as a command, but for the database
METER_PROMPT= # the pid of the psql that has the prompt

demo_main() {
    [ $# -eq 0 ] || { usage >&2 && exit 2; }
    start_throw_away
    local status=0
    run_shown "the demo: demo/demo.sql" "$METER_TMP/log/demo" run_demo postgres || status=$?
    step "stopping the server and removing $METER_TMP"
    return "$status"
}

# A prompt, or what stands on the standard input.
psql_main() {
    [ $# -eq 0 ] || { usage >&2 && exit 2; }
    start_throw_away
    run_job "running the demo in the database demo" "$METER_TMP/log/demo" make_demo_database || {
        cat "$METER_TMP/log/demo"
        die "the demo failed"
    }
    step "psql: an empty database, for what README.md shows; \\c demo has the demo's data; \\q ends it all"
    local status=0
    open_prompt || status=$?
    step "stopping the server and removing $METER_TMP"
    return "$status"
}

start_throw_away() {
    make_temporary_directory
    provide_packages
    choose_user
    choose_build_directory
    prepare_sandbox || die "the build failed"
    METER_SOCKET=$METER_TMP/run
    METER_CLIENT=(env TERM="${TERM:-dumb}" PSQL_HISTORY=/dev/null psql -X -h "$METER_SOCKET" -U postgres -P pager=off)
    run_job "starting a throw-away server" "$METER_TMP/log/server" start_demo_server || {
        cat "$METER_TMP/log/server"
        die "the server did not start"
    }
}

start_demo_server() {
    local data=$METER_SOCKET/data
    as_tester initdb -D "$data" -A trust --encoding=UTF8 --no-locale --no-sync -U postgres &&
        as_tester pg_ctl -D "$data" -w -l "$data/server.log" \
            -o "-c listen_addresses='' -c unix_socket_directories='$METER_SOCKET' -c fsync=off -c timezone=UTC" start
}

# In a database, $1. From the standard input, lest each error tell of the file's name and line.
run_demo() {
    as_tester "${METER_CLIENT[@]}" -d "$1" -q -v ON_ERROR_STOP=1 <"$METER_TMP/source/demo/demo.sql"
}

make_demo_database() {
    as_tester "${METER_CLIENT[@]}" -d postgres -q -c 'CREATE DATABASE demo' && run_demo demo
}

# In the process group of ours, so that it may read the terminal; and in the background, so that a
# signal to us is heard. What an interrupt does there is psql's affair: it cancels a statement, and
# psql hears it though we ignore it. What is ignored does not end wait either.
open_prompt() {
    local status=0
    trap '' INT
    become_tester "${METER_CLIENT[@]}" -d postgres <&0 &
    METER_PROMPT=$!
    wait "$METER_PROMPT" || status=$?
    METER_PROMPT=
    trap 'exit 130' INT
    return "$status"
}
