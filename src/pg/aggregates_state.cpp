// Input and output of the type meter.aggregate_state.
#include "pg/aggregates.hpp"

extern "C" {
#include "libpq/pqformat.h"
}

#include <cstring>

#include "core/text.hpp"
#include "pg/guard.hpp"

namespace meter::pg {

namespace {

// Throws where the bytes are no state. Whatever passes here later functions take without trouble.
void check_state(std::string_view bytes) {
    wire::Reader reader(bytes);
    const StateKind kind = get_state_head(reader);
    if (is_single_row(kind)) {
        auto* scratch = make_in<DigitScratch>(CurrentMemoryContext, CurrentMemoryContext);
        read_last(bytes, kind, scratch->first);
        return;
    }
    ExpandedState* state = make_state(CurrentMemoryContext, kind);
    state->state.absorb(bytes, pause_for_interrupts);
    check_containers(state->state);
    MemoryContextDelete(state->header.eoh_context);
}

// Not a digit: -1.
int hex_value(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

[[noreturn]] void bad_text(const char* text) {
    throw Error(ErrorKind::kInvalidText,
                "invalid input for type meter.aggregate_state: " + quote_for_message(text),
                "It is written as \\x and two hexadecimal digits for each byte.");
}

}  // namespace

}  // namespace meter::pg

using namespace meter;
using namespace meter::pg;

// meter.aggregate_state_in(cstring)
METER_FUNCTION(meter_aggregate_state_in) {
    const char* text = PG_GETARG_CSTRING(0);
    const std::size_t length = std::strlen(text);
    if (length < 2 || length % 2 != 0 || text[0] != '\\' || text[1] != 'x')
        bad_text(text);
    const std::size_t size = VARHDRSZ + (length - 2) / 2;
    auto* state = static_cast<struct varlena*>(palloc(size));
    SET_VARSIZE(state, size);
    char* to = VARDATA(state);
    for (const char* from = text + 2; *from != '\0'; from += 2) {
        const int high = hex_value(from[0]);
        const int low = hex_value(from[1]);
        if (high < 0 || low < 0)
            bad_text(text);
        *to++ = static_cast<char>(high << 4 | low);
    }
    check_state(state_bytes(PointerGetDatum(state)));
    PG_RETURN_POINTER(state);
}

// meter.aggregate_state_out(state)
METER_FUNCTION(meter_aggregate_state_out) {
    const std::string_view bytes = state_bytes(PG_GETARG_DATUM(0));
    auto* text = static_cast<char*>(palloc(bytes.size() * 2 + 3));
    char* to = text;
    *to++ = '\\';
    *to++ = 'x';
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        *to++ = "0123456789abcdef"[byte >> 4];
        *to++ = "0123456789abcdef"[byte & 15];
    }
    *to = '\0';
    PG_RETURN_CSTRING(text);
}

// meter.aggregate_state_recv(internal)
METER_FUNCTION(meter_aggregate_state_recv) {
    auto* message = reinterpret_cast<StringInfo>(PG_GETARG_POINTER(0));
    const int length = message->len - message->cursor;
    const char* bytes = pq_getmsgbytes(message, length);
    check_state({bytes, static_cast<std::size_t>(length)});
    PG_RETURN_DATUM(text_datum({bytes, static_cast<std::size_t>(length)}));
}

// meter.aggregate_state_send(state)
METER_FUNCTION(meter_aggregate_state_send) {
    PG_RETURN_DATUM(text_datum(state_bytes(PG_GETARG_DATUM(0))));
}
