// Reads samples from a file or the standard input; prints a line with label and scores for each.
#include <stdio.h>
#include <string.h>

#include <vector>

#include "model_info.h"
#include "network.h"

namespace {

const char kUsage[] =
    "usage: model [--stored] [FILE]\n"
    "FILE, or the standard input, holds one sample or several, one behind the other: the numbers\n"
    "of every input as 32-bit floats, or with --stored as the network stores them.\n";

void Print() {
  for (int output = 0; output < model::kOutputCount; ++output) {
    printf("%s%s\t", output > 0 ? "\t" : "", model::Label(output));
    for (size_t i = 0; i < model::kOutputs[output].elements; ++i) {
      printf("%s%.9g", i > 0 ? " " : "", static_cast<double>(model::Get(output, i)));
    }
  }
  printf("\n");
}

int Fail(const char* words) {
  fprintf(stderr, "error: %s\n", words);
  return 1;
}

// Reads one input. False at the end; `got` tells how many bytes there were.
bool Read(FILE* file, int input, bool stored, size_t* got) {
  if (stored) {
    const size_t size = model::StoredBytes(input);
    *got = fread(model::Stored(input), 1, size, file);
    return *got == size;
  }
  std::vector<float> values(model::kInputs[input].elements);
  const size_t size = sizeof(float) * values.size();
  *got = fread(values.data(), 1, size, file);
  if (*got != size) return false;
  for (size_t i = 0; i < values.size(); ++i) model::Set(input, i, values[i]);
  return true;
}

}  // namespace

int main(int count, char** arguments) {
  bool stored = false;
  const char* path = nullptr;
  for (int i = 1; i < count; ++i) {
    if (strcmp(arguments[i], "--stored") == 0) {
      stored = true;
    } else if (path == nullptr && arguments[i][0] != '-') {
      path = arguments[i];
    } else {
      fputs(kUsage, stderr);
      return 2;
    }
  }
  FILE* file = path == nullptr ? stdin : fopen(path, "rb");
  if (file == nullptr) return Fail("the file cannot be read");
  if (!model::Begin()) return Fail(model::Problem());
  for (int samples = 0;; ++samples) {
    for (int input = 0; input < model::kInputCount; ++input) {
      size_t got = 0;
      if (Read(file, input, stored, &got)) continue;
      if (input > 0 || got > 0) return Fail("the last sample is cut short");
      return samples > 0 ? 0 : Fail("there is no sample");
    }
    if (!model::Run()) return Fail(model::Problem());
    Print();
  }
}
