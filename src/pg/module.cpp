// What PostgreSQL looks for in a loadable module: the magic block and _PG_init.
#include "pg/compat.hpp"
#include "pg/settings.hpp"
#include "pg/worker.hpp"

extern "C" {
PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

void _PG_init(void) {
    meter::pg::define_settings();
    meter::pg::register_workers();
}
}
