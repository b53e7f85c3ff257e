#include "core/digest.hpp"

#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <stdexcept>

namespace meter {

namespace {

using Sha256 = std::array<std::uint8_t, 32>;

// A hash under way. By OpenSSL's plain functions for SHA-256, which are called deprecated: what
// comes before and after takes EVP as long as it takes to hash one of our fields.
class Hasher {
  public:
    Hasher() { check(SHA256_Init(&context_)); }

    void bytes(std::string_view bytes) {
        if (bytes.size() > sizeof buffer_ - buffered_) {
            flush();
            if (bytes.size() > sizeof buffer_) {
                check(SHA256_Update(&context_, bytes.data(), bytes.size()));
                return;
            }
        }
        std::memcpy(buffer_ + buffered_, bytes.data(), bytes.size());
        buffered_ += bytes.size();
    }

    // A field and, before it, its length: ("a", "bc") and ("ab", "c") must differ.
    void field(std::string_view field) {
        number(static_cast<std::uint32_t>(field.size()));
        bytes(field);
    }

    // Big-endian, whatever the machine.
    void number(std::uint32_t value) {
        const char encoded[4] = {static_cast<char>(value >> 24), static_cast<char>(value >> 16),
                                 static_cast<char>(value >> 8), static_cast<char>(value)};
        bytes({encoded, sizeof encoded});
    }
    void long_number(std::int64_t value) {
        const auto bits = static_cast<std::uint64_t>(value);
        number(static_cast<std::uint32_t>(bits >> 32));
        number(static_cast<std::uint32_t>(bits));
    }

    Sha256 end() {
        Sha256 out;
        flush();
        check(SHA256_Final(out.data(), &context_));
        return out;
    }

  private:
    static void check(int ok) {
        if (ok != 1)
            throw std::runtime_error("SHA-256 failed");
    }

    void flush() {
        check(SHA256_Update(&context_, buffer_, buffered_));
        buffered_ = 0;
    }

    SHA256_CTX context_;
    // Each update costs as much as hashing a few fields does.
    char buffer_[1024];
    std::size_t buffered_ = 0;
};

// The value of a Crockford base32 digit as ULIDs use it, in either case; -1 for any other byte.
int base32_digit(char c) {
    constexpr std::string_view kDigits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    const char upper = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    const std::size_t at = kDigits.find(upper);
    return at == std::string_view::npos ? -1 : static_cast<int>(at);
}

int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

// The first 48 bits of a key that is a UUID (8-4-4-4-12 hex digits) or a ULID (26 base32 digits,
// the first at most 7); nothing for any other key.
std::optional<std::uint64_t> time_prefix(std::string_view key) {
    std::uint64_t bits = 0;
    if (key.size() == 36) {
        int digits = 0;
        for (std::size_t i = 0; i < key.size(); ++i) {
            if (i == 8 || i == 13 || i == 18 || i == 23) {
                if (key[i] != '-')
                    return std::nullopt;
                continue;
            }
            const int digit = hex_digit(key[i]);
            if (digit < 0)
                return std::nullopt;
            if (digits++ < 12)
                bits = bits << 4 | static_cast<std::uint64_t>(digit);
        }
        return bits;
    }
    if (key.size() == 26) {
        for (std::size_t i = 0; i < key.size(); ++i) {
            const int digit = base32_digit(key[i]);
            if (digit < 0 || (i == 0 && digit > 7))
                return std::nullopt;
            if (i < 10)
                bits = bits << 5 | static_cast<std::uint64_t>(digit);
        }
        return bits;
    }
    return std::nullopt;
}

}  // namespace

Digest key_digest(std::int32_t meter_id, std::string_view user_id, std::string_view key) {
    Hasher hash;
    hash.number(static_cast<std::uint32_t>(meter_id));
    hash.field(user_id);
    hash.field(key);
    const Sha256 full = hash.end();

    Digest digest;
    std::copy_n(full.begin(), digest.size(), digest.begin());
    if (const auto prefix = time_prefix(key))
        for (int i = 0; i < 6; ++i)
            digest[static_cast<std::size_t>(i)] =
                static_cast<std::uint8_t>(*prefix >> (8 * (5 - i)));
    return digest;
}

Digest dimensions_digest(std::string_view canonical) {
    Hasher hash;
    hash.bytes(canonical);
    const Sha256 full = hash.end();
    Digest digest;
    std::copy_n(full.begin(), digest.size(), digest.begin());
    return digest;
}

Digest event_digest(std::int64_t id, std::int64_t time, const NumberView& value,
                    const Digest& dimensions) {
    Hasher hash;
    hash.long_number(id);
    hash.long_number(time);
    hash.number(value.negative ? 1 : 0);
    hash.number(static_cast<std::uint32_t>(value.weight));
    hash.number(value.count);
    for (std::uint32_t i = 0; i < value.count; ++i)
        hash.number(static_cast<std::uint32_t>(value.digit(i)));
    hash.bytes({reinterpret_cast<const char*>(dimensions.data()), dimensions.size()});
    const Sha256 full = hash.end();
    Digest digest;
    std::copy_n(full.begin(), digest.size(), digest.begin());
    return digest;
}

std::int64_t payload_fingerprint(std::string_view canonical_value,
                                 std::string_view canonical_dimensions) {
    Hasher hash;
    hash.field(canonical_value);
    hash.field(canonical_dimensions);
    const Sha256 full = hash.end();
    std::uint64_t bits = 0;
    for (int i = 0; i < 8; ++i)
        bits = bits << 8 | full[static_cast<std::size_t>(i)];
    std::int64_t fingerprint;
    std::memcpy(&fingerprint, &bits, sizeof fingerprint);
    return fingerprint;
}

}  // namespace meter
