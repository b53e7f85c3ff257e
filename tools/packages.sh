# shellcheck shell=bash
# Finds what the build and the tests need, and installs what is missing. Sourced by ./meter.

METER_OLDEST_PG=14
METER_NEWEST_PG=18

# Whether the C++ compiler finds a header.
has_header() {
    echo "#include <$1>" | "${CXX:-g++}" -std=c++20 -E -x c++ - >/dev/null 2>&1
}

has_perl_module() { perl -M"$1" -e 1 >/dev/null 2>&1; }

# Whether the installation of this pg_config has server, headers and the test programs.
is_complete() {
    local config=$1 pgxs
    "$config" --version >/dev/null 2>&1 || return 1
    pgxs=$("$config" --pgxs)
    [ -x "$("$config" --bindir)/postgres" ] && [ -e "$("$config" --includedir-server)/postgres.h" ] &&
        [ -e "$pgxs" ] && [ -x "$(dirname "$pgxs")/../test/regress/pg_regress" ]
}

# Versions that Debian's packages have put on this machine, the newest first.
installed_versions() {
    local directory
    for directory in /usr/lib/postgresql/[0-9]*/; do
        [ -x "$directory/bin/postgres" ] && basename "$directory"
    done | sort -rn
}

# Sets PG_CONFIG to a complete installation: the one asked for, else the one in PATH, else Debian's
# newest. Fails where there is none.
find_postgres() {
    local version
    if [ -n "${PG_CONFIG:-}" ]; then
        is_complete "$PG_CONFIG" || die "PG_CONFIG=$PG_CONFIG is not a complete PostgreSQL installation" \
            "It needs the server, its headers, and pg_regress beside the PGXS makefiles."
        PG_CONFIG=$(command -v "$PG_CONFIG")
        return 0
    fi
    if is_complete pg_config; then
        PG_CONFIG=$(command -v pg_config)
        return 0
    fi
    for version in $(installed_versions); do
        if is_complete "/usr/lib/postgresql/$version/bin/pg_config"; then
            PG_CONFIG=/usr/lib/postgresql/$version/bin/pg_config
            return 0
        fi
    done
    return 1
}

# The names of the missing packages, PostgreSQL's aside.
missing_packages() {
    if ! command -v "${CXX:-g++}" >/dev/null; then echo g++; fi
    if ! command -v make >/dev/null; then echo make; fi
    if ! command -v cmake >/dev/null; then echo cmake; fi
    if ! command -v prove >/dev/null || ! has_perl_module Test::More || ! has_perl_module JSON::PP; then
        echo perl
    fi
    if ! has_perl_module IPC::Run; then echo libipc-run-perl; fi
    if ! has_header nlohmann/json.hpp; then echo nlohmann-json3-dev; fi
    if ! has_header gtest/gtest.h; then echo libgtest-dev; fi
    if ! has_header openssl/evp.h; then echo libssl-dev; fi
}

# The PostgreSQL version to install: one that is there in part, else the newest there are packages
# of.
version_to_install() {
    local version
    version=$(installed_versions | head -n 1)
    [ -n "$version" ] || version=$(apt-cache --names-only search '^postgresql-server-dev-[0-9]+$' |
        sed -n 's/^postgresql-server-dev-\([0-9]*\) .*/\1/p' |
        awk -v low=$METER_OLDEST_PG -v high=$METER_NEWEST_PG '$1 >= low && $1 <= high' |
        sort -rn | head -n 1)
    [ -n "$version" ] || die "no package postgresql-server-dev-NN, NN from $METER_OLDEST_PG to $METER_NEWEST_PG" \
        "Add a package source that has one, or set PG_CONFIG to an installation."
    echo "$version"
}

apt_install() {
    METER_PATIENT=yes
    run_job "installing $*" "$METER_TMP/apt.log" as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends "$@" || {
        tail -n 30 "$METER_TMP/apt.log" >&2
        die "apt-get could not install: $*"
    }
    METER_PATIENT=
}

# Installs PostgreSQL without the server that Debian's package would set up and start.
install_postgres() {
    local version=$1 conf=/etc/postgresql-common/createcluster.conf
    apt_install postgresql-common
    if [ -e "$conf" ]; then
        as_root cp -p "$conf" "$conf.meter-saved"
        METER_RESTORE=$conf
        as_root sh -c "sed -i '/^ *create_main_cluster/d' '$conf' && echo 'create_main_cluster = false' >>'$conf'"
    fi
    apt_install "postgresql-$version" "postgresql-server-dev-$version"
    if [ -n "$METER_RESTORE" ]; then
        as_root mv -f "$conf.meter-saved" "$conf"
        METER_RESTORE=
    fi
}

# Makes sure that everything is there, and sets PG_CONFIG.
provide_packages() {
    local packages postgres=yes
    mapfile -t packages < <(missing_packages)
    find_postgres || postgres=no
    if [ ${#packages[@]} -gt 0 ] || [ $postgres = no ]; then
        local wanted="${packages[*]}"
        [ $postgres = yes ] || wanted="${wanted:+$wanted }postgresql postgresql-server-dev-all"
        command -v apt-get >/dev/null || die "missing, and there is no apt-get to install it: $wanted" \
            "Install these by hand (the names are Debian's)."
        is_root || command -v sudo >/dev/null || die "missing: $wanted" \
            "Installing needs root, and there is no sudo. As root:" \
            "apt-get update && apt-get install $wanted"
        say "missing: $wanted"
        # Ask for the password now: a job in the background cannot.
        is_root || sudo -v || die "sudo does not let us install: $wanted"
        run_job "apt-get update" "$METER_TMP/apt.log" as_root apt-get update -q ||
            { tail -n 5 "$METER_TMP/apt.log" >&2; say "apt-get update failed; trying with the lists there are"; }
        [ ${#packages[@]} -eq 0 ] || apt_install "${packages[@]}"
        if [ $postgres = no ]; then
            install_postgres "$(version_to_install)"
            find_postgres || die "PostgreSQL is still not complete after the installation"
        fi
        mapfile -t packages < <(missing_packages)
        [ ${#packages[@]} -eq 0 ] || die "still missing after the installation: ${packages[*]}"
    fi
}

# Unpacks pgbouncer, where it is not installed, into the temporary directory, with the libraries that
# are missing: to install it would start a server. Sets METER_PGBOUNCER, to nothing where that fails.
provide_pgbouncer() {
    local directory=$METER_TMP/pgbouncer log=$METER_TMP/log/pgbouncer
    METER_PGBOUNCER=$(PATH=$PATH:/usr/sbin command -v pgbouncer || true)
    [ -z "$METER_PGBOUNCER" ] || return 0
    mkdir -p "$directory"
    if ! run_job "fetching pgbouncer" "$log" unpack_pgbouncer "$directory"; then
        # The lists of packages may be missing, or old.
        { is_root || sudo -n true 2>/dev/null; } || return 0
        METER_PATIENT=yes
        run_job "apt-get update" "$log" as_root apt-get update -q || true
        METER_PATIENT=
        run_job "fetching pgbouncer" "$log" unpack_pgbouncer "$directory" || return 0
    fi
    METER_PGBOUNCER=$directory/pgbouncer
}

unpack_pgbouncer() {
    local package packages=(pgbouncer)
    cd "$1" || return
    for package in $(apt-cache depends pgbouncer | sed -n 's/^ *Depends: \(lib[^ ]*\)$/\1/p'); do
        dpkg -s "$package" >/dev/null 2>&1 || packages+=("$package")
    done
    apt-get download -q "${packages[@]}" || return
    for package in ./*.deb; do
        dpkg -x "$package" . || return
    done
    printf '#!/bin/sh\nLD_LIBRARY_PATH=$(echo "%s"/usr/lib/*-linux-*) exec "%s/usr/sbin/pgbouncer" "$@"\n' \
        "$1" "$1" >pgbouncer
    chmod -R a+rX . && chmod a+x pgbouncer
}
