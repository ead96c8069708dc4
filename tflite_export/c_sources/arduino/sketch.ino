// Reads a sample from the serial port, as a line of numbers, and prints its label and scores.
#include <Chirale_TensorFlowLite.h>

#include "model_info.h"
#include "network.h"
#include "text_sample.h"

static model::TextSample sample;

static void printAnswer() {
  for (int output = 0; output < model::kOutputCount; ++output) {
    Serial.print(model::Label(output));
    for (size_t i = 0; i < model::kOutputs[output].elements; ++i) {
      Serial.print(i == 0 ? '\t' : ' ');
      Serial.print(model::Get(output, i), 6);
    }
    Serial.println();
  }
}

void setup() {
  Serial.begin(115200);
  while (!Serial) {
  }
  if (!model::Begin()) {
    Serial.println(model::Problem());
    while (true) delay(1000);
  }
  Serial.print("ready for lines of ");
  Serial.print(static_cast<unsigned long>(model::kInputElements));
  Serial.print(" numbers; bytes used of the arena: ");
  Serial.println(static_cast<unsigned long>(model::ArenaUsed()));
}

void loop() {
  while (Serial.available() > 0) {
    switch (sample.Take(static_cast<char>(Serial.read()))) {
      case model::TextSample::kComplete:
        if (model::Run()) {
          printAnswer();
        } else {
          Serial.println(model::Problem());
        }
        break;
      case model::TextSample::kWrong:
        Serial.print("no sample: a line of as many numbers as said above is one, this had ");
        Serial.println(static_cast<unsigned long>(sample.got()));
        break;
      case model::TextSample::kMore:
        break;
    }
  }
}
