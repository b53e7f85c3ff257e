# shellcheck shell=bash
# The tests and their count. Sourced by ./meter.

METER_PASSED=0
METER_FAILED=0
METER_SKIPPED=0
METER_FAST=no

# Adds to the count: passed, failed, skipped.
count() {
    METER_PASSED=$((METER_PASSED + $1))
    METER_FAILED=$((METER_FAILED + $2))
    METER_SKIPPED=$((METER_SKIPPED + ${3:-0}))
}

# One test that is a single command: its name, then the command; its output is shown if it fails.
check_one() {
    local name=$1 log=$METER_TMP/log/one
    shift
    if "$@" >"$log" 2>&1; then
        say "ok   $name"
        count 1 0
    else
        say "FAIL $name"
        sed 's/^/     /' "$log"
        count 0 1
    fi
}

check_main() {
    local groups=(lint unit regress isolation tap demo) group
    case ${1:-} in
        '') ;;
        fast) METER_FAST=yes groups=(lint unit regress isolation tap) && shift ;;
        lint | unit | regress | isolation | tap | demo) groups=("$1") && shift ;;
        *)
            usage >&2
            exit 2
            ;;
    esac
    make_temporary_directory
    provide_packages
    choose_user
    choose_build_directory
    for group in "${groups[@]}"; do
        case $group in
            regress | isolation | tap | demo)
                if [ -z "${METER_SANDBOX:-}" ]; then
                    METER_SANDBOX=ready
                    prepare_sandbox || METER_SANDBOX=broken
                fi
                if [ "$METER_SANDBOX" = broken ]; then
                    say "FAIL $group: there is nothing to test, the build failed"
                    count 0 1
                    continue
                fi
                ;;
        esac
        "check_$group" "$@"
    done
    say
    if [ "$METER_SKIPPED" -gt 0 ]; then
        say "$METER_PASSED passed, $METER_FAILED failed, $METER_SKIPPED skipped"
    else
        say "$METER_PASSED passed, $METER_FAILED failed"
    fi
    [ "$METER_FAILED" -eq 0 ] && [ "$METER_PASSED" -gt 0 ]
}

# --- lint: what needs no running code

core_knows_no_postgres() {
    ! grep -nE '#[[:space:]]*include[[:space:]]*["<]((postgres|fmgr|c)\.h|pg/)' -r "$METER_ROOT/src/core"
}

versions_agree() {
    perl -MJSON::PP -we '
        my ($control, $meta) = map { open my $f, "<", $_ or die "$_: $!"; local $/; <$f> } @ARGV;
        my ($version) = $control =~ /^default_version = \x27(.*)\x27/m or die "no default_version";
        my $json = decode_json($meta);
        for my $found ($json->{version}, map { $_->{version} } values %{ $json->{provides} }) {
            die "META.json says $found, meter.control $version\n" if $found ne $version;
        }' "$METER_ROOT/meter.control" "$METER_ROOT/META.json"
}

# The sources under clang's warnings; $1 is the compiler.
clang_accepts() {
    local include
    include=$("$PG_CONFIG" --includedir-server)
    find "$METER_ROOT/src" -name '*.cpp' -print0 | sort -z |
        xargs -0 -n 1 -P "$(nproc)" "$1" -fsyntax-only -std=c++20 -Wall -Wextra -Werror -Wno-unused-parameter \
            -D_GNU_SOURCE -DMETER_VERSION='""' -I"$METER_ROOT/src" -isystem "$include" \
            -isystem "$("$PG_CONFIG" --includedir)"
}

# The wrong versions that test/mutants/run makes, and what benchmarks compare with: a patch that no longer
# applies, with every part, proves nothing.
patches_apply() {
    local patch said
    for patch in "$METER_ROOT"/test/mutants/*.patch "$METER_ROOT"/test/mutants/history/*.patch \
        "$METER_ROOT"/test/bench/*/*.patch; do
        said=$(patch --dry-run --verbose -d "$METER_ROOT" -p1 -f <"$patch") || { echo "$patch: $said" && return 1; }
        [ "$(grep -c '^Hunk .* succeeded' <<<"$said")" -eq "$(grep -c '^@@' "$patch")" ] ||
            { echo "$patch applies in part: $said" && return 1; }
    done
}

check_lint() {
    local clang=
    step "lint"
    check_one "src/core includes no PostgreSQL" core_knows_no_postgres
    check_one "META.json has the version of meter.control" versions_agree
    if command -v patch >/dev/null; then
        check_one "the patches in test/mutants and test/bench apply" patches_apply
    else
        say "skip there is no patch to see whether those in test/mutants and test/bench apply"
        count 0 0 1
    fi
    for clang in clang++ clang++-{14..21} ''; do
        if [ -n "$clang" ] && command -v "$clang" >/dev/null; then break; fi
    done
    if [ -n "$clang" ]; then
        check_one "$clang compiles the sources without a warning" clang_accepts "$clang"
    else
        say "skip there is no clang++"
        count 0 0 1
    fi
}

# --- unit: CMake, GoogleTest and ctest

build_unit_tests() {
    cmake -S "$METER_ROOT" -B "$1" -DPG_CONFIG="$PG_CONFIG" &&
        cmake --build "$1" --target meter_unit_tests -j "$(nproc)"
}

# Names, if given, are parts of test names.
check_unit() {
    local directory=$METER_BUILD/cmake log=$METER_TMP/log/ctest status=0 total failed pattern
    if ! run_job "building the unit tests" "$METER_TMP/log/unit" build_unit_tests "$directory"; then
        tail -n 60 "$METER_TMP/log/unit"
        say "FAIL unit tests: they do not build"
        count 0 1
        return 0
    fi
    pattern=$(IFS='|' && echo "$*")
    run_job "unit tests" "$log" ctest --test-dir "$directory" --output-on-failure -j "$(nproc)" \
        ${pattern:+-R "$pattern"} || status=$?
    # "97% tests passed, 2 tests failed out of 70"
    read -r failed total < <(sed -n \
        's/^[0-9]*% tests passed, \([0-9]*\) tests\{0,1\} failed out of \([0-9]*\)$/\1 \2/p' "$log") || true
    if [ -z "${total:-}" ]; then
        tail -n 30 "$log"
        say "FAIL unit tests: ctest did not report (status $status)"
        count 0 1
        return 0
    fi
    [ "$failed" -eq 0 ] || grep -vE '^ *[0-9]+/[0-9]+ Test.*Passed|^ *Start +[0-9]+:' "$log" || true
    [ "$status" -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
    say "unit: $((total - failed)) of $total passed"
    count $((total - failed)) "$failed"
    [ $# -gt 0 ] || [ $METER_FAST = yes ] || check_fuzz
}

# Each fuzz target for a few seconds, where there is a clang with libFuzzer.
check_fuzz() {
    local log=$METER_TMP/log/fuzz status=0 passed failed
    run_job "fuzzing" "$log" env METER_FUZZ_SECONDS=3 METER_FUZZ_BUILD="$METER_BUILD/fuzz" \
        "$METER_ROOT/test/fuzz/run" || status=$?
    if [ "$status" -eq 77 ]; then
        say "skip fuzz: $(tail -n 1 "$log")"
        count 0 0 1
        return 0
    fi
    passed=$(grep -c '^ok ' "$log" || true)
    failed=$(grep -c '^FAIL ' "$log" || true)
    [ "$status" -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
    [ "$failed" -eq 0 ] || tail -n 100 "$log"
    say "fuzz: $passed passed, $failed failed ($(awk '/^ok / { n += $(NF - 1) } END { print n + 0 }' "$log") inputs)"
    count "$passed" "$failed"
}

# --- regress and isolation: pg_regress and its sibling, each with a server of its own

# Prints base names of the files $1/*.$2, those named by the rest if there are any.
tests_in() {
    local directory=$1 suffix=$2 file name wanted
    shift 2
    for file in "$directory"/*."$suffix"; do
        [ -e "$file" ] || continue
        name=$(basename "$file" ".$suffix")
        if [ $# -eq 0 ]; then echo "$name"; fi
        for wanted in "$@"; do
            if [ "$wanted" = "$name" ]; then echo "$name"; fi
        done
    done
}

# Runs one of the two programs: group, program, input directory, database, then the tests.
run_regress() {
    local group=$1 program=$2 input=$3 database=$4 status=0 passed failed name
    local output=$METER_TMP/run/$group log=$METER_TMP/log/$group
    shift 4
    as_tester mkdir -p "$output"
    # Without an expected output pg_regress gives up on all that follows; this test fails instead,
    # and shows what it wrote.
    for name in "$@"; do
        [ -e "$input/expected/$name.out" ] || { mkdir -p "$input/expected" && : >"$input/expected/$name.out" &&
            chmod -R a+rX "$input/expected" && say "there is no expected output of $name"; }
    done
    printf "listen_addresses = ''\nfsync = off\ntimezone = 'UTC'\n" >"$METER_TMP/server.conf"
    run_shown "$group: $# tests" "$log" as_tester "$program" --inputdir="$input" --outputdir="$output" \
        --bindir="$METER_BIN" --temp-instance="$output/instance" --temp-config="$METER_TMP/server.conf" \
        --encoding=UTF8 --no-locale --dbname="$database" --load-extension=meter "$@" || status=$?
    # "test name ... ok" up to PostgreSQL 15, "ok 1 - name" since.
    passed=$(grep -cE '^(test )?[^ ]+ +\.\.\. ok|^ok [0-9]+' "$log" || true)
    failed=$(($# - passed))
    if [ "$status" -ne 0 ] || [ "$failed" -ne 0 ]; then
        [ "$failed" -gt 0 ] || failed=1
        if [ -s "$output/regression.diffs" ]; then
            head -n 400 "$output/regression.diffs"
            rm -rf "$METER_BUILD/results/$group"
            mkdir -p "$METER_BUILD/results"
            cp -r "$output/results" "$METER_BUILD/results/$group"
            say "(what the tests wrote is kept in $METER_BUILD/results/$group)"
        else
            find "$output" -path '*/log/*.log' -exec tail -n 40 {} +
        fi
    fi
    say "$group: $passed of $# passed"
    count "$passed" "$failed"
}

# Leaves test $2 of group $1 out of a fast check, and says so, if it has the remark "slow" near the
# beginning of its file, $3. False: it is to be run.
leave_out() {
    [ $METER_FAST = yes ] && head -n 10 "$3" | grep -qE '^(#|--) slow' || return 1
    say "skip $1 $2: it is slow"
    count 0 0 1
}

check_regress() {
    local tests=() name
    while IFS= read -r name; do
        leave_out regress "$name" "$METER_ROOT/sql/$name.sql" || tests+=("$name")
    done < <(tests_in "$METER_ROOT/sql" sql "$@")
    if [ ${#tests[@]} -eq 0 ]; then
        none_found regress "$@"
        return 0
    fi
    run_regress regress "$METER_PGXS_TEST/regress/pg_regress" "$METER_TMP/source" contrib_regression "${tests[@]}"
}

check_isolation() {
    local tests
    mapfile -t tests < <(tests_in "$METER_ROOT/test/isolation/specs" spec "$@")
    if [ ${#tests[@]} -eq 0 ]; then
        none_found isolation "$@"
        return 0
    fi
    run_regress isolation "$METER_PGXS_TEST/isolation/pg_isolation_regress" "$METER_TMP/source/test/isolation" \
        isolation_regression "${tests[@]}"
}

# A group without tests is fine, a name without a test is not.
none_found() {
    local group=$1
    shift
    [ $# -eq 0 ] || { say "FAIL $group: there is no test $*" && count 0 1; }
}

# --- tap: Perl scripts over PostgreSQL::Test::Cluster, which start servers of their own

run_prove() {
    as_tester env PERL5LIB="$METER_PGXS_TEST/perl" PG_REGRESS="$METER_PGXS_TEST/regress/pg_regress" \
        TESTDIR="$2" TESTDATADIR="$2/tmp_check" TESTLOGDIR="$2/log" METER_SOURCE="$METER_TMP/source" \
        METER_CHECKOUT="$METER_ROOT" METER_TRACE="${METER_TRACE:-}" METER_SEED="${METER_SEED:-}" \
        METER_ROUNDS="${METER_ROUNDS:-}" METER_CALLS="${METER_CALLS:-}" METER_SECONDS="${METER_SECONDS:-}" METER_QUESTIONS="${METER_QUESTIONS:-}" METER_PGBOUNCER="${METER_PGBOUNCER:-}" \
        share_contrib_dir="$METER_TMP/source" prove --norc --verbose --merge "$METER_TMP/source/test/tap/$1.pl"
}

# What failed, and what was said beside, but for the sessions that PostgreSQL::Test since 17 writes
# down in full.
said_in_failure() {
    awk '/^# (connect output:|issuing query )/ { session = 1 }
        !session && /^(not ok|#)/
        /^# }/ { session = 0 }' "$1"
}

# Whether a script has a remark "# $2" near its beginning: slow, alone, needs pgbouncer.
tap_is() {
    head -n 10 "$METER_ROOT/test/tap/$1.pl" | grep -q "^# $2"
}

# As many at a time as there are processors, four at most: they wait a lot. Those that measure how long
# something takes come last, one by one.
check_tap() {
    local tests name slow=() together=() alone=() most
    mapfile -t tests < <(tests_in "$METER_ROOT/test/tap" pl "$@")
    [ ${#tests[@]} -gt 0 ] || none_found tap "$@"
    for name in "${tests[@]}"; do
        ! leave_out tap "$name" "$METER_ROOT/test/tap/$name.pl" || continue
        if tap_is "$name" 'needs pgbouncer'; then
            [ -n "${METER_PGBOUNCER+known}" ] || provide_pgbouncer
        fi
        # The slow ones first, so that none of them is left for the end.
        if tap_is "$name" alone; then
            alone+=("$name")
        elif tap_is "$name" slow; then
            slow+=("$name")
        else
            together+=("$name")
        fi
    done
    most=${METER_JOBS_AT_ONCE:-$(nproc)}
    run_tap_scripts $((most < 4 ? most : 4)) "${slow[@]}" "${together[@]}"
    run_tap_scripts 1 "${alone[@]}"
}

# Runs scripts, $1 of them at a time.
run_tap_scripts() {
    local most=$1 name job status told=$SECONDS doing
    local -A running=() started=()
    shift
    while [ $# -gt 0 ] || [ ${#running[@]} -gt 0 ]; do
        while [ $# -gt 0 ] && [ ${#running[@]} -lt "$most" ]; do
            step "tap $1"
            as_tester mkdir -p "$METER_TMP/run/tap/$1"
            start_job "$METER_TMP/log/tap-$1" run_prove "$1" "$METER_TMP/run/tap/$1"
            running[$METER_JOB]=$1
            started[$METER_JOB]=$SECONDS
            shift
        done
        sleep 0.1
        for job in "${!running[@]}"; do
            kill -0 "$job" 2>/dev/null && continue
            status=0
            end_job "$job" || status=$?
            report_tap "${running[$job]}" "$status" $((SECONDS - started[$job]))
            unset "running[$job]"
        done
        if [ $((SECONDS - told)) -ge 30 ] && [ ${#running[@]} -gt 0 ]; then
            told=$SECONDS
            doing=
            for job in "${!running[@]}"; do doing+=", tap ${running[$job]}: $((SECONDS - started[$job])) s"; done
            say "   ... ${doing#, }"
        fi
    done
}

# What a script that has ended has said, its status and its time in seconds.
report_tap() {
    local name=$1 status=$2 seconds=$3 log=$METER_TMP/log/tap-$1 output=$METER_TMP/run/tap/$1 passed failed
    passed=$(grep -cE '^ok\b' "$log" || true)
    failed=$(grep -cE '^not ok\b' "$log" || true)
    # A script that dies, or keeps not to its plan, has failed whatever it said before.
    [ "$status" -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
    if [ "$status" -ne 0 ] || [ "$failed" -gt 0 ]; then
        { said_in_failure "$log" | head -n 100 || true
          say "   ... the last lines of the test and of its servers:"
          tail -n 15 "$log"
          find "$output" -name '*.log' -path '*/log/*' -exec tail -n 10 {} +; } | cut -c 1-2000
    elif [ "$passed" -eq 0 ]; then
        say "   $(grep -oE 'skipped: .*|^1\.\.0.*' "$log" || echo 'no test was run')"
        count 0 0 1
    fi
    say "tap $name: $passed passed, $failed failed, $seconds s"
    count "$passed" "$failed"
    rm -rf "$output"
}
