// Whoever waits has read all: the program ends.
#pragma once
#include <cstdlib>

#include "freertos/FreeRTOS.h"
inline void vTaskDelay(TickType_t) { exit(0); }
