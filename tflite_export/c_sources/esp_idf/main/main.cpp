// Reads a sample from the console, as a line of numbers, and prints its label and scores.
#include <stdio.h>

#include "freertos/FreeRTOS.h"
#include "freertos/task.h"

#include "model_info.h"
#include "network.h"
#include "text_sample.h"

static model::TextSample sample;

static void PrintAnswer() {
  for (int output = 0; output < model::kOutputCount; ++output) {
    printf("%s", model::Label(output));
    for (size_t i = 0; i < model::kOutputs[output].elements; ++i) {
      printf("%c%.6f", i == 0 ? '\t' : ' ', static_cast<double>(model::Get(output, i)));
    }
    printf("\n");
  }
}

extern "C" void app_main(void) {
  if (!model::Begin()) {
    printf("%s\n", model::Problem());
    return;
  }
  printf("ready for lines of %u numbers; bytes used of the arena: %u\n",
         static_cast<unsigned>(model::kInputElements), static_cast<unsigned>(model::ArenaUsed()));
  while (true) {
    const int character = fgetc(stdin);
    if (character == EOF) {  // Nothing was typed yet.
      clearerr(stdin);
      vTaskDelay(pdMS_TO_TICKS(10));
      continue;
    }
    switch (sample.Take(static_cast<char>(character))) {
      case model::TextSample::kComplete:
        if (model::Run()) {
          PrintAnswer();
        } else {
          printf("%s\n", model::Problem());
        }
        break;
      case model::TextSample::kWrong:
        printf("no sample: a line of as many numbers as said above is one, this had %u\n",
               static_cast<unsigned>(sample.got()));
        break;
      case model::TextSample::kMore:
        break;
    }
  }
}
