// Runs a sketch until its serial port has nothing more, or it gives up.
#include <cstdlib>

#include "Arduino.h"

Port Serial;
void delay(unsigned long) { exit(1); }

int main() {
  setup();
  while (Serial.available() > 0) loop();
}
