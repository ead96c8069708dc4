// The library's door: Arduino finds its folder by this name.
#pragma once
#define STUB_CHIRALE
