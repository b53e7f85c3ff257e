// What the fuzz targets share.
#pragma once

#include <cstdlib>

// A promise that has to hold whatever the input is.
inline void check(bool holds) {
    if (!holds)
        std::abort();
}
