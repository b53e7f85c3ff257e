// What PostgreSQL looks for in a loadable module: the magic block and _PG_init.
#include "pg/compat.hpp"
#include "pg/settings.hpp"
#include "pg/worker.hpp"

extern "C" {
#ifdef PG_MODULE_MAGIC_EXT
PG_MODULE_MAGIC_EXT(.name = "meter", .version = METER_VERSION);
#else
PG_MODULE_MAGIC;
#endif

PGDLLEXPORT void _PG_init(void);

void _PG_init(void) {
    meter::pg::define_settings();
    meter::pg::register_workers();
}
}
