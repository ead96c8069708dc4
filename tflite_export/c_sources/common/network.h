// One network in TFLite Micro: begin once, then set values, run and get answers as often as needed.
#ifndef NETWORK_H_
#define NETWORK_H_

#include <stddef.h>

namespace model {

// Loads the network. False where it cannot be had; Problem() says why.
bool Begin();

// Why the last call failed.
const char* Problem();

// Sets one number of an input: a real value, stored as the network takes it.
void Set(int input, size_t index, float value);

// An input as the network stores it, for values that are stored so already.
void* Stored(int input);
size_t StoredBytes(int input);

bool Run();

// One number of an output, as a real value.
float Get(int output, size_t index);

// What an output decides: its label, or its position as text; "-" where it decides nothing.
const char* Label(int output);

// Bytes that TFLite Micro says it uses of the arena.
size_t ArenaUsed();

}  // namespace model

#endif  // NETWORK_H_
