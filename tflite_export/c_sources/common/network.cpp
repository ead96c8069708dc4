#include "network.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>

#ifdef ARDUINO
#include <Chirale_TensorFlowLite.h>
#endif
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"

#include "model_check.h"
#include "model_data.h"
#include "model_info.h"
#include "model_operators.h"

// Releases of TFLite Micro until 2026 have their names in tflite, later ones in tflite::micro.
namespace tflite {
namespace micro {}
}  // namespace tflite
namespace tflm {
using namespace tflite;
using namespace tflite::micro;
}  // namespace tflm

namespace model {
namespace {

constexpr unsigned kSchema = 3;

alignas(16) uint8_t arena[kArenaSize];
tflm::MicroInterpreter* interpreter = nullptr;
// Older releases allocate anew whenever they are asked for an end: each is asked for once.
void* inputs[kInputCount];
const void* outputs[kOutputCount];
char problem[160] = "";

size_t Bytes(const End& end) {
  switch (end.type) {
    case kInt8:
    case kUInt8:
    case kBool:
      return end.elements;
    case kInt16:
      return 2 * end.elements;
    case kInt64:
      return 8 * end.elements;
    default:
      return 4 * end.elements;
  }
}

template <typename T>
void Store(void* data, size_t index, double value, double lowest, double highest) {
  value = value < lowest ? lowest : value > highest ? highest : value;
  static_cast<T*>(data)[index] = static_cast<T>(value);
}

template <typename T>
double Load(const void* data, size_t index) {
  return static_cast<double>(static_cast<const T*>(data)[index]);
}

// The smallest and the largest value of a type, and how far apart stored values are.
void Range(const End& end, double* lowest, double* highest) {
  *lowest = 0;
  *highest = 1;
  if (end.type == kFloat32) return;
  const double half = end.type == kInt16 ? 32768 : 128;
  *lowest = end.type == kUInt8 ? 0 : -half;
  *highest = *lowest + 2 * half - 1;
  *lowest = (*lowest - end.zero_point) * static_cast<double>(end.scale);
  *highest = (*highest - end.zero_point) * static_cast<double>(end.scale);
}

// One number of an input that is made by a rule: model_check.h has what is answered to it.
float CheckValue(const End& end, uint32_t seed, uint32_t index) {
  if (end.type != kFloat32 && !(end.scale > 0)) return 0;
  double lowest, highest;
  Range(end, &lowest, &highest);
  const double share = (index * 7919u + seed * 104729u + 31u) % 997u / 996.0;
  return static_cast<float>((lowest + share * (highest - lowest)) / (1u << seed % 3));
}

// Whether this build answers what TFLite Micro answered when the folder was written.
bool Check() {
  const float* expected = kExpected;
  for (int check = 0; check < kChecks && check < MODEL_CHECKS; ++check) {
    for (int i = 0; i < kInputCount; ++i) {
      for (size_t at = 0; at < kInputs[i].elements; ++at) {
        Set(i, at, CheckValue(kInputs[i], kSeeds[check], static_cast<uint32_t>(at)));
      }
    }
    if (!Run()) return false;
    for (int i = 0; i < kOutputCount; ++i) {
      const size_t count =
          kOutputs[i].elements < kExpectedMost ? kOutputs[i].elements : kExpectedMost;
      float largest = 0;
      for (size_t at = 0; at < count; ++at) {
        if (fabsf(expected[at]) > largest) largest = fabsf(expected[at]);
      }
      const float accepted = 0.02f * largest + 4 * kOutputs[i].scale + 1e-6f;
      for (size_t at = 0; at < count; ++at) {
        const float found = Get(i, at);
        if (fabsf(found - expected[at]) <= accepted) continue;
        snprintf(problem, sizeof problem,
                 "this build of TFLite Micro answers %.4g where %.4g is right: it is too old for "
                 "the network, or errs (README.txt)",
                 static_cast<double>(found), static_cast<double>(expected[at]));
        return false;
      }
      expected += count;
    }
  }
  return true;
}

}  // namespace

const char* Problem() { return problem; }

bool Begin() {
  const auto* file = tflm::GetModel(model_data);
  if (file->version() != kSchema) {
    snprintf(problem, sizeof problem, "the file is of schema %u, not %u",
             static_cast<unsigned>(file->version()), kSchema);
    return false;
  }
  static tflm::MicroMutableOpResolver<kOperatorCount> resolver;
  if (!AddOperators(resolver)) {
    snprintf(problem, sizeof problem, "an operator cannot be added");
    return false;
  }
  static tflm::MicroInterpreter made(file, resolver, arena, kArenaSize);
  if (static_cast<int>(made.AllocateTensors()) != 0) {  // 0 is kTfLiteOk.
    snprintf(problem, sizeof problem,
             "this build of TFLite Micro does not take the network, or not in %u bytes: raise "
             "MODEL_ARENA_MARGIN in model_info.h",
             static_cast<unsigned>(kArenaSize));
    return false;
  }
  interpreter = &made;
  for (int i = 0; i < kInputCount; ++i) {
    const auto* tensor = made.input(i);
    if (tensor->bytes != Bytes(kInputs[i])) {
      snprintf(problem, sizeof problem,
               "input %d has %u bytes, not %u: is TF_LITE_STATIC_MEMORY defined as it was for the "
               "library?",
               i, static_cast<unsigned>(tensor->bytes), static_cast<unsigned>(Bytes(kInputs[i])));
      return false;
    }
    inputs[i] = tensor->data.raw;
  }
  for (int i = 0; i < kOutputCount; ++i) {
    outputs[i] = made.output(i)->data.raw;
  }
  return Check();
}

void Set(int input, size_t index, float value) {
  const End& end = kInputs[input];
  void* data = inputs[input];
  double stored = static_cast<double>(value);
  if (stored != stored) stored = 0.0;
  if (end.scale > 0) {
    stored = rint(stored / static_cast<double>(end.scale)) + end.zero_point;
  }
  switch (end.type) {
    case kInt8:
      return Store<int8_t>(data, index, stored, -128, 127);
    case kUInt8:
      return Store<uint8_t>(data, index, stored, 0, 255);
    case kInt16:
      return Store<int16_t>(data, index, stored, -32768, 32767);
    case kInt32:
      return Store<int32_t>(data, index, stored, -2147483648.0, 2147483647.0);
    case kInt64:
      return Store<int64_t>(data, index, stored, -9e18, 9e18);
    case kBool:
      return Store<bool>(data, index, stored != 0, 0, 1);
    case kFloat32:
      static_cast<float*>(data)[index] = value;
  }
}

void* Stored(int input) { return inputs[input]; }

size_t StoredBytes(int input) { return Bytes(kInputs[input]); }

bool Run() {
  if (interpreter == nullptr || static_cast<int>(interpreter->Invoke()) != 0) {
    snprintf(problem, sizeof problem, "the network cannot be run");
    return false;
  }
  return true;
}

float Get(int output, size_t index) {
  const End& end = kOutputs[output];
  const void* data = outputs[output];
  double stored = 0;
  switch (end.type) {
    case kInt8:
      stored = Load<int8_t>(data, index);
      break;
    case kUInt8:
      stored = Load<uint8_t>(data, index);
      break;
    case kInt16:
      stored = Load<int16_t>(data, index);
      break;
    case kInt32:
      stored = Load<int32_t>(data, index);
      break;
    case kInt64:
      stored = Load<int64_t>(data, index);
      break;
    case kBool:
      stored = Load<bool>(data, index);
      break;
    case kFloat32:
      return static_cast<const float*>(data)[index];
  }
  if (end.scale > 0) {
    stored = (stored - end.zero_point) * static_cast<double>(end.scale);
  }
  return static_cast<float>(stored);
}

const char* Label(int output) {
  static char number[12];
  const End& end = kOutputs[output];
  if (end.decision == kNothing) return "-";
  int position = 0;
  if (end.decision == kAboveHalf) {
    position = Get(output, 0) > 0.5f ? 1 : 0;
  } else {
    for (size_t i = 1; i < end.elements; ++i) {
      if (Get(output, i) > Get(output, position)) position = static_cast<int>(i);
    }
  }
  if (end.labels != nullptr) return end.labels[position];
  snprintf(number, sizeof number, "%d", position);
  return number;
}

size_t ArenaUsed() { return interpreter == nullptr ? 0 : interpreter->arena_used_bytes(); }

}  // namespace model
