"""Sources of programs for microcontrollers: what is written for each file, and what is the same.

The folders `common`, `plain`, `arduino` and `esp_idf` hold C++ and build files that are copied as
they stand; `ends` and `headers` write what differs from file to file.
"""
