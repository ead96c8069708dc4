// Where the names are: in tflite, as until 2026, or with STUB_MICRO in tflite::micro, as since.
#pragma once
#include <cstddef>
#include <cstdint>

#ifdef STUB_MICRO
#define STUB_OPENS namespace micro {
#define STUB_CLOSES }
#else
#define STUB_OPENS
#define STUB_CLOSES
#endif

#ifdef STUB_MICRO
namespace tflite {
namespace micro {
#endif
enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
struct TfLiteTensor {
  union {
    char* raw;
    float* f;
  } data;
  size_t bytes;
};
#ifdef STUB_MICRO
}  // namespace micro
}  // namespace tflite
#endif
