"""stub"""
def measure_run(setup, folder, console):
    return {}
