// A stand-in for Arduino: the serial port is the standard input and output.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>

struct Port {
  int next = EOF;
  void begin(long) { next = getchar(); }
  explicit operator bool() const { return true; }
  int available() const { return next == EOF ? 0 : 1; }
  int read() {
    const int now = next;
    next = getchar();
    return now;
  }
  void print(const char* text) { fputs(text, stdout); }
  void print(char character) { putchar(character); }
  void print(unsigned long number) { printf("%lu", number); }
  void print(double number, int digits) { printf("%.*f", digits, number); }
  void println() { puts(""); }
  void println(const char* text) { puts(text); }
  void println(unsigned long number) { printf("%lu\n", number); }
};
extern Port Serial;
void delay(unsigned long milliseconds);
void setup();
void loop();
