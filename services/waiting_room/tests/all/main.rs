mod e16;
