// Ctrl-C and SIGTERM as a flag that long work asks about, so that it stops between two units of work and loses nothing.
#pragma once

namespace tessera {

// Installs the handlers. A second Ctrl-C ends the program at once.
void catch_interrupts();

// True once the user asked to stop.
bool interrupted();

// Throws Error(interrupted) once the user asked to stop.
void throw_if_interrupted();

}  // namespace tessera
