// A sample as a line of text: numbers with blanks or commas between them, one character at a time.
#ifndef TEXT_SAMPLE_H_
#define TEXT_SAMPLE_H_

#include <stddef.h>
#include <stdlib.h>

#include "model_info.h"
#include "network.h"

namespace model {

class TextSample {
 public:
  enum State { kMore, kComplete, kWrong };

  // Takes the next character. Complete at the end of a line with as many numbers as the inputs
  // have; wrong at the end of any other line that is not empty.
  State Take(char character) {
    const bool ends = character == '\n' || character == '\r';
    if (!ends && character != ' ' && character != ',' && character != '\t') {
      if (length_ + 1 < sizeof token_) {
        token_[length_++] = character;
      } else {
        wrong_ = true;
      }
      return kMore;
    }
    Number();
    if (!ends || (count_ == 0 && !wrong_)) return kMore;
    const bool complete = !wrong_ && count_ == kInputElements;
    got_ = count_;
    count_ = 0;
    wrong_ = false;
    return complete ? kComplete : kWrong;
  }

  // How many numbers the last line had.
  size_t got() const { return got_; }

 private:
  void Number() {
    if (length_ == 0) return;
    token_[length_] = '\0';
    length_ = 0;
    char* rest = nullptr;
    const float value = static_cast<float>(strtod(token_, &rest));
    wrong_ = wrong_ || *rest != '\0';
    size_t index = count_++;
    for (int i = 0; i < kInputCount; ++i) {
      if (index < kInputs[i].elements) {
        Set(i, index, value);
        return;
      }
      index -= kInputs[i].elements;
    }
  }

  char token_[32];
  size_t length_ = 0;
  size_t count_ = 0;
  size_t got_ = 0;
  bool wrong_ = false;
};

}  // namespace model

#endif  // TEXT_SAMPLE_H_
