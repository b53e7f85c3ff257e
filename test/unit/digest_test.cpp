// Digests and fingerprints are on disk: what is expected here was computed by another program
// (Python's hashlib, where nothing else is said), and may never change.
#include "core/digest.hpp"

#include <gtest/gtest.h>

#include <cstdio>
#include <set>
#include <string>

namespace meter {
namespace {

std::string hex(const Digest& digest) {
    std::string out;
    for (const auto byte : digest) {
        char two[3];
        std::snprintf(two, sizeof two, "%02x", byte);
        out += two;
    }
    return out;
}

TEST(KeyDigest, IsWhatItAlwaysWas) {
    EXPECT_EQ(hex(key_digest(7, "alice", "order-1")), "3c4a90404f0f04142e25046aebcbb19c");
    EXPECT_EQ(hex(key_digest(-1, "", "")), "3414421b183188342209566fad4e0c07");
}

TEST(KeyDigest, KeepsTheTimeOfAUuidInFront) {
    EXPECT_EQ(hex(key_digest(7, "alice", "0190a1b2-c3d4-7abc-8def-0123456789ab")),
              "0190a1b2c3d4"
              "8f9cf2c3a8e9e6eb0dab");
}

TEST(KeyDigest, KeepsTheTimeOfAUlidInFront) {
    // 01ARZ3NDEK is 0x01563e3ab5d3 milliseconds since 1970; the digits' two spare bits are zero.
    EXPECT_EQ(hex(key_digest(7, "alice", "01ARZ3NDEKTSV4RRFFQ69G5FAV")),
              "01563e3ab5d3"
              "3b033c8990d0824bcc62");
}

TEST(KeyDigest, OtherKeysOfThoseLengthsAreHashedWhole) {
    for (const char* key :
         {"0190a1b2-c3d4-7abc-8def-0123456789ag", "0190a1b2xc3d4-7abc-8def-0123456789ab",
          "81ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAU", "01ARZ3NDEKTSV4RRFFQ69G5FA"})
        EXPECT_NE(hex(key_digest(7, "alice", key)).substr(0, 4), std::string(key).substr(0, 4))
            << key;
}

TEST(KeyDigest, DiffersWithEachPart) {
    std::set<Digest> seen;
    seen.insert(key_digest(1, "a", "bc"));
    seen.insert(key_digest(1, "ab", "c"));
    seen.insert(key_digest(1, "abc", ""));
    seen.insert(key_digest(1, "", "abc"));
    seen.insert(key_digest(2, "a", "bc"));
    // The time in front is the same for these; the rest is not.
    seen.insert(key_digest(1, "a", "0190a1b2-c3d4-7abc-8def-0123456789ab"));
    seen.insert(key_digest(1, "b", "0190a1b2-c3d4-7abc-8def-0123456789ab"));
    seen.insert(key_digest(1, "a", "0190a1b2-c3d4-7abc-8def-0123456789ac"));
    EXPECT_EQ(seen.size(), 8u);
}

// By sha256sum.
TEST(DimensionsDigest, IsTheFrontOfSha256) {
    EXPECT_EQ(hex(dimensions_digest("{}")), "44136fa355b3678a1146ad16f7e8649e");
    EXPECT_EQ(hex(dimensions_digest("{\"model\":\"gpt-4\",\"region\":\"eu\"}")),
              "dc7b80c97120762ecfca327dd6491c91");
    EXPECT_EQ(hex(dimensions_digest("")), "e3b0c44298fc1c149afbf4c8996fb924");
}

TEST(PayloadFingerprint, IsWhatItAlwaysWas) {
    EXPECT_EQ(payload_fingerprint("1", "{}"), -429797868498411699);
    EXPECT_EQ(payload_fingerprint("0.5", "{\"model\":\"gpt-4\"}"), 8766788241737267177);
}

TEST(PayloadFingerprint, DiffersWithEachPart) {
    std::set<std::int64_t> seen;
    seen.insert(payload_fingerprint("1", "{}"));
    seen.insert(payload_fingerprint("2", "{}"));
    seen.insert(payload_fingerprint("1", "{\"a\":1}"));
    seen.insert(payload_fingerprint("1{", "}"));
    EXPECT_EQ(seen.size(), 4u);
}

}  // namespace
}  // namespace meter
