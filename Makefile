# PGXS build of the extension: `make`, `make install`, `make installcheck`.
# `./meter check` runs every test on a throw-away cluster and installs nothing.

EXTENSION  = meter
EXTVERSION = $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" meter.control)

MODULE_big = meter
OBJS = $(patsubst %.cpp,%.o,$(sort $(wildcard src/core/*.cpp src/pg/*.cpp)))

SQL_PIECES = $(sort $(wildcard src/sql/*.sql))
DATA_built = meter--$(EXTVERSION).sql
DATA       = $(wildcard updates/meter--*--*.sql)

REGRESS       = $(patsubst sql/%.sql,%,$(sort $(wildcard sql/*.sql)))
REGRESS_OPTS  = --inputdir=. --load-extension=meter
ISOLATION     = $(patsubst test/isolation/specs/%.spec,%,$(sort $(wildcard test/isolation/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test/isolation --load-extension=meter

PG_CPPFLAGS = -Isrc
PG_CXXFLAGS = -std=c++20 -Wall -Wextra -Werror -Wno-unused-parameter -fvisibility=hidden -ffile-prefix-map=$(CURDIR)=.
SHLIB_LINK  = -lcrypto -lstdc++

EXTRA_CLEAN = meter--*.sql $(wildcard src/core/*.d src/pg/*.d)

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)

# No LLVM bitcode: a C++ exception must never unwind through a frame that the
# JIT inlined, and the functions here are too large to gain from inlining.
override with_llvm = no
include $(PGXS)

# The library is C++: g++ must link it, and server headers are system headers
# here, or their own warnings would fail the build.
override COMPILER = $(CXX) $(CXXFLAGS)
override CPPFLAGS := $(patsubst -I$(includedir_server),-isystem $(includedir_server),$(CPPFLAGS))
# PostgreSQL's C-only warning flags make a C++ compiler complain.
override CXXFLAGS := $(filter-out -Wmissing-prototypes -Wdeclaration-after-statement,$(CXXFLAGS))

# Every object depends on every header: a full build takes a minute, a stale
# object file costs an afternoon.
$(OBJS): $(wildcard src/core/*.hpp src/pg/*.hpp) meter.control

src/pg/module.o: override CPPFLAGS += -DMETER_VERSION='"$(EXTVERSION)"'

meter--$(EXTVERSION).sql: $(SQL_PIECES) meter.control
	cat $(SQL_PIECES) > $@

