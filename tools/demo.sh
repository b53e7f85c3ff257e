# shellcheck shell=bash
# A throw-away server on which demo/demo.sql runs. Sourced by ./meter.

demo_main() {
    [ $# -eq 0 ] || { usage >&2 && exit 2; }
    make_temporary_directory
    provide_packages
    choose_user
    choose_build_directory
    prepare_sandbox || die "the build failed"
    local data=$METER_TMP/run/data socket=$METER_TMP/run
    run_job "starting a throw-away server" "$METER_TMP/log/server" start_demo_server "$data" "$socket" || {
        cat "$METER_TMP/log/server"
        die "the server did not start"
    }
    local status=0
    run_shown "the demo: demo/demo.sql" "$METER_TMP/log/demo" as_tester psql -X -q -v ON_ERROR_STOP=1 \
        -h "$socket" -d postgres -P pager=off -f "$METER_TMP/source/demo/demo.sql" || status=$?
    step "stopping the server and removing $METER_TMP"
    return "$status"
}

start_demo_server() {
    local data=$1 socket=$2
    as_tester initdb -D "$data" -A trust --encoding=UTF8 --no-locale --no-sync &&
        as_tester pg_ctl -D "$data" -w -l "$data/server.log" \
            -o "-c listen_addresses='' -c unix_socket_directories='$socket' -c fsync=off -c timezone=UTC" start
}
