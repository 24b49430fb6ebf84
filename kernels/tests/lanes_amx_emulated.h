#pragma once
#include "emulated_tiles.h"
#include "../src/targets/lanes_amx.h"
