// A stand-in for TFLite Micro's interpreter: it answers what the file of STUB_ANSWERS says for the
// bytes that it is given, and writes what it was made with to STUB_RECORD.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/micro/stub.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace tflite {
STUB_OPENS
class MicroInterpreter {
 public:
  MicroInterpreter(const Model* model, const MicroOpResolver& resolver, uint8_t* arena,
                   size_t size);
  TfLiteStatus AllocateTensors();
  TfLiteStatus Invoke();
  TfLiteTensor* input(size_t index) { return &inputs_[index]; }
  TfLiteTensor* output(size_t index) { return &outputs_[index]; }
  size_t arena_used_bytes() const { return needed_; }

 private:
  std::string resolver_;
  uint8_t* arena_;
  size_t size_;
  size_t needed_ = 0;
  std::vector<TfLiteTensor> inputs_, outputs_;
  std::map<std::string, std::string> answers_;
};
STUB_CLOSES
}  // namespace tflite
