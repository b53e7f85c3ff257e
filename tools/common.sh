# shellcheck shell=bash
# Messages, jobs that can be interrupted, and cleaning up. Sourced by ./meter.

say() { printf '%s\n' "$*"; }
step() { printf '== %s\n' "$*"; }

# Ends with a message; further arguments are lines of advice.
die() {
    printf 'meter: %s\n' "$1" >&2
    shift
    local line
    for line in "$@"; do printf '  %s\n' "$line" >&2; done
    exit 1
}

is_root() { [ "$(id -u)" -eq 0 ]; }

# Runs a command as root, by sudo where we are not.
as_root() {
    if is_root; then "$@"; else sudo "$@"; fi
}

METER_JOB=     # the process group of the job that was started last
METER_JOBS=()  # those of all that are running
METER_PATIENT= # set: the job must not be stopped half way, as apt-get must not
METER_TMP=     # the temporary directory
METER_RESTORE= # a system file to be put back from its copy

# Runs a command, its output going to the file $2, and returns its status. $1 is what it does: said
# at once, and again every half minute. In a process group of its own, so that it can be stopped
# whole, and in the background, so that a signal to us is heard while it runs.
run_job() {
    local label=$1 log=$2
    shift 2
    step "$label"
    start_job "$log" "$@"
    wait_job "$label"
}

# The same, but its output is shown as well.
run_shown() {
    local label=$1 log=$2
    shift 2
    step "$label"
    start_job /dev/stdout tee_to "$log" "$@"
    wait_job "$label"
}

tee_to() {
    local log=$1
    shift
    set -o pipefail
    "$@" 2>&1 | tee "$log"
}

start_job() {
    local out=$1
    shift
    set -m
    if [ "$out" = /dev/stdout ]; then
        (trap - EXIT INT TERM HUP; set +m; "$@") </dev/null &
    else
        (trap - EXIT INT TERM HUP; set +m; "$@") </dev/null >"$out" 2>&1 &
    fi
    METER_JOB=$!
    METER_JOBS+=("$METER_JOB")
    set +m
}

# The status of a job, by its process group, that has ended or is about to.
end_job() {
    local status=0 job left=()
    wait "$1" || status=$?
    for job in "${METER_JOBS[@]}"; do [ "$job" = "$1" ] || left+=("$job"); done
    METER_JOBS=("${left[@]}")
    return "$status"
}

wait_job() {
    local label=$1 started=$SECONDS told=$SECONDS status=0
    while kill -0 "$METER_JOB" 2>/dev/null; do
        sleep 0.1
        if [ $((SECONDS - told)) -ge 30 ]; then
            told=$SECONDS
            say "   ... $label: $((SECONDS - started)) s"
        fi
    done
    end_job "$METER_JOB" || status=$?
    return "$status"
}

# Stops every server whose data lie below the temporary directory, by the pid in its own pid file.
stop_servers() {
    local file pid try
    while IFS= read -r file; do
        pid=$(head -n 1 "$file" 2>/dev/null) || continue
        case $pid in '' | *[!0-9]*) continue ;; esac
        case $(readlink "/proc/$pid/cwd" 2>/dev/null || true) in "$METER_TMP"/*) ;; *) continue ;; esac
        kill -INT "$pid" 2>/dev/null || continue
        for try in 1 2 3 4 5 6 7 8 9 10 11 12; do
            sleep 0.5
            kill -0 "$pid" 2>/dev/null || break
            [ "$try" -ne 6 ] || kill -QUIT "$pid" 2>/dev/null || true
            [ "$try" -ne 11 ] || kill -KILL "$pid" 2>/dev/null || true
        done
    done < <(find "$METER_TMP" -name postmaster.pid -type f 2>/dev/null)
}

clean_up() {
    local status=$?
    trap '' INT TERM HUP
    set +e
    local job try
    if [ -n "$METER_PATIENT" ] && [ ${#METER_JOBS[@]} -gt 0 ]; then
        say "waiting for apt-get to finish: stopped half way it would leave packages broken"
        while kill -0 "$METER_JOB" 2>/dev/null; do sleep 0.3; done
    else
        for job in "${METER_JOBS[@]}"; do kill -TERM -- "-$job" 2>/dev/null; done
        for job in "${METER_JOBS[@]}"; do
            for try in 1 2 3 4 5 6 7 8 9 10; do
                kill -0 -- "-$job" 2>/dev/null || break
                sleep 0.3
                [ "$try" -ne 9 ] || kill -KILL -- "-$job" 2>/dev/null
            done
        done
    fi
    [ -z "${METER_PROMPT:-}" ] || kill -TERM "$METER_PROMPT" 2>/dev/null
    if [ -n "$METER_RESTORE" ]; then
        as_root mv -f "$METER_RESTORE.meter-saved" "$METER_RESTORE"
    fi
    if [ -n "$METER_TMP" ]; then
        stop_servers
        rm -rf "$METER_TMP"
    fi
    exit "$status"
}

trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
