// Rounding of usage, and meter.round_value().
#include "pg/rounding.hpp"

#include "pg/guard.hpp"
#include "pg/memory.hpp"
#include "pg/values.hpp"

extern "C" {
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
}

namespace meter::pg {

namespace {

constexpr const char* kModeNames[] = {"none", "round", "ceil", "floor"};

void check_precision(int32 precision) {
    if (precision < kLeastPrecision || precision > kMostPrecision)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("rounding_precision %d is out of bounds", precision),
                        errhint("It is a number of decimals from %d to %d; a negative one rounds "
                                "to tens, hundreds and so on.",
                                kLeastPrecision, kMostPrecision)));
}

// 10^exponent.
Datum power_of_ten(int32 exponent) {
    return DirectFunctionCall3(numeric_in, CStringGetDatum(psprintf("1e%d", exponent)),
                               ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
}

}  // namespace

Rounding::Mode find_rounding_mode(std::string_view name) {
    for (int i = 0; i < static_cast<int>(lengthof(kModeNames)); ++i)
        if (name == kModeNames[i])
            return static_cast<Rounding::Mode>(i);
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("rounding \"%s\" is not known", shown(name)),
                    errhint("Usage is rounded by round, ceil or floor, or by none.")));
    pg_unreachable();
}

const char* rounding_mode_name(Rounding::Mode mode) {
    return kModeNames[static_cast<int>(mode)];
}

Rounding read_rounding(FunctionCallInfo fcinfo, int rounding, int precision, Rounding own) {
    Rounding read = own;
    if (!PG_ARGISNULL(rounding))
        read.mode = find_rounding_mode(text_view(PG_GETARG_DATUM(rounding)));
    if (!PG_ARGISNULL(precision)) {
        read.precision = PG_GETARG_INT32(precision);
        check_precision(read.precision);
        if (read.mode == Rounding::Mode::kNone)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("rounding_precision is given, and nothing is rounded"),
                            errhint("Pass rounding => 'round', 'ceil' or 'floor' with it.")));
    }
    if (read.mode == Rounding::Mode::kNone)
        read.precision = 0;
    return read;
}

Rounding rounding_of(const MeterDefinition& meter) {
    if (meter.rounding.empty())
        return {Rounding::Mode::kNone, 0};
    return {find_rounding_mode(meter.rounding), meter.rounding_precision};
}

Datum round_numeric(Datum value, Rounding rounding) {
    switch (rounding.mode) {
        case Rounding::Mode::kNone:
            return value;
        case Rounding::Mode::kRound:
            value = DirectFunctionCall2(numeric_round, value, Int32GetDatum(rounding.precision));
            break;
        case Rounding::Mode::kCeil:
        case Rounding::Mode::kFloor:
            // Both products are exact.
            value = DirectFunctionCall2(numeric_mul, value, power_of_ten(rounding.precision));
            value = rounding.mode == Rounding::Mode::kCeil
                        ? DirectFunctionCall1(numeric_ceil, value)
                        : DirectFunctionCall1(numeric_floor, value);
            value = DirectFunctionCall2(numeric_mul, value, power_of_ten(-rounding.precision));
    }
    return DirectFunctionCall1(numeric_trim_scale, value);
}

}  // namespace meter::pg

// meter.round_value(value, rounding, rounding_precision)
METER_FUNCTION(meter_round_value) {
    using namespace meter::pg;
    const Rounding none{Rounding::Mode::kNone, 0};
    // A precision without a rounding is no error here: a meter's row has one.
    const bool rounds = !PG_ARGISNULL(1) &&
                        find_rounding_mode(text_view(PG_GETARG_DATUM(1))) != Rounding::Mode::kNone;
    const Rounding rounding = rounds ? read_rounding(fcinfo, 1, 2, none) : none;
    if (PG_ARGISNULL(0))
        PG_RETURN_NULL();
    PG_RETURN_DATUM(round_numeric(PG_GETARG_DATUM(0), rounding));
}
