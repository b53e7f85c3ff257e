// Digests of events and their sums, for SQL.
#include "pg/compat.hpp"

#include "core/digest_sum.hpp"
#include "pg/cells.hpp"
#include "pg/guard.hpp"
#include "pg/numeric.hpp"
#include "pg/values.hpp"

extern "C" {
#include "utils/numeric.h"
}

METER_FUNCTION(meter_event_digest) {
    using namespace meter::pg;
    if (numeric_is_nan(PG_GETARG_NUMERIC(2)) || numeric_is_inf(PG_GETARG_NUMERIC(2)))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("an event's value is a finite number")));
    const CanonicalDimensions dimensions = canonical_dimensions(PG_GETARG_DATUM(3));
    const meter::Digest digest = meter::event_digest(
        PG_GETARG_INT64(0), to_unix_micros(PG_GETARG_TIMESTAMPTZ(1)),
        view_numeric(PG_GETARG_DATUM(2)), meter::dimensions_digest(dimensions.text));
    return digest_datum(meter::DigestSum::of(digest));
}

METER_FUNCTION(meter_add_digests) {
    using namespace meter::pg;
    meter::DigestSum sum = meter::DigestSum::of(digest_of(PG_GETARG_DATUM(0)));
    sum.add(meter::DigestSum::of(digest_of(PG_GETARG_DATUM(1))));
    return digest_datum(sum);
}

METER_FUNCTION(meter_negate_digest) {
    using namespace meter::pg;
    return digest_datum(meter::DigestSum::of(digest_of(PG_GETARG_DATUM(0))).negated());
}
